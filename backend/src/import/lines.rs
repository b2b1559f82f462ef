//! Reads lines of bounded length.

use std::io::{self, BufRead};

use super::ROW_LIMIT;

/// A line with its end, or the beginning of one that is too long.
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether bytes beyond [`ROW_LIMIT`] were discarded.
    pub(super) cut: bool,
    /// Its length in the file, in bytes.
    pub(super) length: usize,
}

/// Reads up to the next `end`; `None` at the end of the file.
pub(super) fn next(reader: &mut impl BufRead, end: u8) -> io::Result<Option<Line>> {
    let mut line = Line { bytes: Vec::new(), cut: false, length: 0 };
    let mut any = false;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let found = buffer.iter().position(|byte| *byte == end).map(|at| at + 1);
        let part = buffer.get(..found.unwrap_or(buffer.len())).unwrap_or_default();
        let capacity = ROW_LIMIT.saturating_sub(line.bytes.len());
        line.cut |= part.len() > capacity;
        line.bytes.extend(part.iter().take(capacity));
        let taken = part.len();
        line.length += taken;
        reader.consume(taken);
        if found.is_some() {
            return Ok(Some(line));
        }
    }
}

/// The bytes of a rejected row without the line end.
pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}
