//! The layout of rows in a file.

/// The separators of rows and cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Between CSV cells: `,`, `;` or a tab.
    pub separator: char,
    /// The end of a line: a line feed, optionally after a carriage return, or a carriage return alone.
    pub line_end: u8,
    /// Whether unknown CSV columns are ignored instead of rejecting the file.
    pub ignore_unknown: bool,
}

impl Default for Dialect {
    /// The collector's dialect.
    fn default() -> Self {
        Self { separator: ',', line_end: b'\n', ignore_unknown: false }
    }
}
