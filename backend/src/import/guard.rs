//! Cells that a spreadsheet would run as formulas.
//!
//! A guarded cell begins with an apostrophe, and so does each cell of the file that began with
//! one before: so the guard can be removed without a doubt. The
//! column [`COLUMN`] marks such a file, which a spreadsheet keeps when it saves it.

/// The name of the last column of a guarded file. Its cells are empty.
pub(super) const COLUMN: &str = "guarded";

/// The cell as it is written to a guarded file.
pub(super) fn guard(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\'', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// The cell that [`guard`] was given.
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
    fn a_guard_is_put_where_it_is_needed_and_taken_away_again() {
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
