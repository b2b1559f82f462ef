//! Escapes cells that a spreadsheet would execute as formulas.
//!
//! An escaped cell begins with an apostrophe. Cells that begin with one are escaped too, so that unescaping is
//! unambiguous. The column [`COLUMN`] marks an escaped file; spreadsheets preserve it when saving.

/// The name of the marker column, whose cells are empty.
pub(super) const COLUMN: &str = "guarded";

/// Escapes a cell.
pub(super) fn guard(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\'', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// Reverses [`guard`].
pub(super) fn unguard(cell: String) -> String {
    match cell.strip_prefix('\'') {
        Some(rest) => rest.to_owned(),
        None => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_where_needed_and_restored() {
        for cell in ["=1+1", "+81", "-abc_DEF123", "@a", "'a", "\ta", "\ra", "'", "''", "'=1"] {
            let guarded = guard(cell.to_owned());
            assert_eq!(guarded, format!("'{cell}"));
            assert_eq!(unguard(guarded), cell);
        }
        for cell in ["", "a", " =1", "a=1", "\n=1", "1-1", "\u{ff1d}1"] {
            assert_eq!(guard(cell.to_owned()), cell);
            assert_eq!(unguard(cell.to_owned()), cell);
        }
    }
}
