//! Splits CSV into records, and a record into cells (RFC 4180).

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::ops::Range;

use super::lines::{self, Line};
use super::{Dialect, ROW_LIMIT};

/// How often reading resumes at the line after an unclosed quote. After that, everything up to the closing quote is one
/// rejected row, so that a file cannot cause unbounded rescans.
const RECOVERIES: u32 = 64;

/// Splits a record into cells.
pub(super) fn split(record: &str, dialect: Dialect) -> Result<Vec<String>, &'static str> {
    let record = record.strip_suffix('\n').unwrap_or(record);
    let record = record.strip_suffix('\r').unwrap_or(record);
    let (mut cells, mut cell, mut state) = (Vec::new(), String::new(), QuoteState::Start);
    for c in record.chars() {
        let before = state;
        state = state.after(c, dialect.separator);
        match (before, state) {
            (QuoteState::Quote, QuoteState::Plain) => return Err("has text after a closing quote"),
            (_, QuoteState::Plain) if c == '\r' => return Err("has a carriage return outside quotes"),
            (_, QuoteState::Plain) if c == '\n' => return Err("has a line feed outside quotes"),
            (_, QuoteState::Start) => cells.push(std::mem::take(&mut cell)),
            // The quote opens or closes a cell, or is the first of an escaped pair.
            (QuoteState::Start, QuoteState::Quoted) | (_, QuoteState::Quote) => {}
            _ => cell.push(c),
        }
    }
    cells.push(cell);
    Ok(cells)
}

/// A record with its line end, possibly of several lines.
pub(super) struct CsvRecord {
    pub(super) bytes: Vec<u8>,
    /// Its position in the file.
    pub(super) span: Range<usize>,
    /// False if it is incomplete: too long, or with an unclosed quote.
    pub(super) whole: bool,
}

/// Splits a file into records.
pub(super) struct CsvRecords<R> {
    reader: R,
    pub(super) dialect: Dialect,
    /// Lines read ahead in search of a closing quote.
    pending: VecDeque<Line>,
    recoveries: u32,
    /// Bytes consumed so far.
    read: usize,
}

impl<R: BufRead> CsvRecords<R> {
    pub(super) fn new(reader: R, dialect: Dialect) -> Self {
        Self { reader, dialect, pending: VecDeque::new(), recoveries: 0, read: 0 }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<CsvRecord>> {
        let (mut lines, mut length, mut state) = (Vec::new(), 0, QuoteState::Start);
        loop {
            let line = match self.pending.pop_front() {
                Some(line) => Some(line),
                None => lines::next(&mut self.reader, self.dialect.line_end)?,
            };
            let Some(line) = line else {
                return Ok(if lines.is_empty() { None } else { Some(self.recover(lines)) });
            };
            let separator = self.dialect.separator;
            state = line.bytes.iter().fold(state, |state, byte| state.after(char::from(*byte), separator));
            length += line.bytes.len();
            let cut = line.cut;
            lines.push(line);
            if cut || length > ROW_LIMIT {
                return Ok(Some(self.recover(lines)));
            }
            if state != QuoteState::Quoted {
                let span = self.span(lines.iter().map(|line| line.length).sum());
                let bytes = lines.into_iter().flat_map(|line| line.bytes).collect();
                return Ok(Some(CsvRecord { bytes, span, whole: true }));
            }
        }
    }

    /// Returns an incomplete record: only its first line, while recoveries last.
    fn recover(&mut self, lines: Vec<Line>) -> CsvRecord {
        let mut lines = lines.into_iter();
        let (mut bytes, mut length) = lines.next().map(|line| (line.bytes, line.length)).unwrap_or_default();
        if self.recoveries < RECOVERIES {
            self.recoveries += 1;
            for line in lines.rev() {
                self.pending.push_front(line);
            }
        } else {
            for line in lines {
                length += line.length;
                bytes.extend(line.bytes);
            }
        }
        CsvRecord { bytes, span: self.span(length), whole: false }
    }

    /// The position of the next `length` bytes.
    fn span(&mut self, length: usize) -> Range<usize> {
        let start = self.read;
        self.read += length;
        start..self.read
    }
}

/// The position of a character within a record. The relevant characters are ASCII, so that bytes can be scanned as
/// well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    /// At the start of a cell, where a quote opens it.
    Start,
    /// In an unquoted cell, or after the closing quote.
    Plain,
    /// Between quotes, where line breaks are text.
    Quoted,
    /// After a quote in a quoted cell: the closing one, or the first of an escaped pair.
    Quote,
}

impl QuoteState {
    fn after(self, c: char, separator: char) -> Self {
        match (self, c) {
            (Self::Start, '"') | (Self::Quote, '"') => Self::Quoted,
            (Self::Quoted, '"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (Self::Start | Self::Plain | Self::Quote, c) if c == separator => Self::Start,
            (Self::Start | Self::Plain | Self::Quote, _) => Self::Plain,
        }
    }
}

/// The columns if `separator` is used; none if the header cannot be parsed.
pub(super) fn header(text: &[u8], separator: char) -> Vec<String> {
    let dialect = Dialect { separator, ..Dialect::default() };
    let end = header_end(text, separator);
    let header = text.get(..end.min(ROW_LIMIT)).and_then(|header| std::str::from_utf8(header).ok());
    header.and_then(|header| split(header, dialect).ok()).unwrap_or_default()
}

/// The line end of a text: that of its header.
pub(super) fn line_end(text: &[u8], separator: char) -> u8 {
    let end = header_end(text, separator);
    match (text.get(end), text.get(end + 1)) {
        (Some(b'\r'), next) if next != Some(&b'\n') => b'\r',
        _ => b'\n',
    }
}

/// The end of the header: the first unquoted line end.
fn header_end(text: &[u8], separator: char) -> usize {
    let mut state = QuoteState::Start;
    let ends = |byte: &u8| {
        state = state.after(char::from(*byte), separator);
        state != QuoteState::Quoted && matches!(byte, b'\r' | b'\n')
    };
    text.iter().position(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_enclose_whole_cells() {
        let cells = |record: &str| split(record, Dialect::default()).map(|cells| cells.join("|"));
        for (record, expected) in [
            ("a,b\r\n", "a|b"),
            ("a,b", "a|b"),
            (",\n", "|"),
            ("", ""),
            ("\"a,\"\"b\"\"\r\n\",c\n", "a,\"b\"\r\n|c"),
            ("\"\",\"\"\n", "|"),
            ("a\"b,c\"\n", "a\"b|c\""),
            ("é,\"夜\"\n", "é|夜"),
        ] {
            assert_eq!(cells(record).as_deref(), Ok(expected), "{record:?}");
        }
        assert_eq!(cells("\"a\"b,c\n"), Err("has text after a closing quote"));
        assert_eq!(cells("a\rb,c\n"), Err("has a carriage return outside quotes"));
    }
}
