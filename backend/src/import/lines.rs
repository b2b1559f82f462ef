//! Lines of a file, each of bounded length.

use std::io::{self, BufRead};

use super::ROW_LIMIT;

/// One line with its end, or its beginning where it is too long.
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether bytes beyond [`ROW_LIMIT`] were thrown away.
    pub(super) cut: bool,
}

/// Reads up to the next line feed; `None` at the end.
pub(super) fn next(reader: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Line { bytes: Vec::new(), cut: false };
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
        let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let room = ROW_LIMIT.saturating_sub(line.bytes.len());
        line.cut |= part.len() > room;
        line.bytes.extend(part.iter().take(room));
        let taken = part.len();
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// The text of a row for a reject, without its end.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned()
}
