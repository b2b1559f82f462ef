//! How the rows of a text are laid out.

/// How rows and cells end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What is between two cells of CSV: `,`, `;` or a tab.
    pub separator: char,
    /// What ends a line: a line feed, before which a carriage return may be, or a carriage return alone.
    pub line_end: u8,
    /// Whether unknown columns of CSV are passed over, not refused.
    pub ignore_unknown: bool,
}

impl Default for Dialect {
    /// The collector's.
    fn default() -> Self {
        Self { separator: ',', line_end: b'\n', ignore_unknown: false }
    }
}
