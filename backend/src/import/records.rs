//! Splits CSV into records, and a record into cells (RFC 4180).

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::ops::Range;

use super::lines::{self, Line};
use super::{Dialect, ROW_LIMIT};

/// How often reading starts again at the line after a stray quote. Beyond it, all that
/// the quote encloses is one reject, so that no file makes us read it over and over.
const RECOVERIES: u32 = 64;

/// The cells of one record.
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
            // A quote that opens a cell, and one that closes it or is the first of two.
            (QuoteState::Start, QuoteState::Quoted) | (_, QuoteState::Quote) => {}
            _ => cell.push(c),
        }
    }
    cells.push(cell);
    Ok(cells)
}

/// One record with its end, perhaps of several lines.
pub(super) struct CsvRecord {
    pub(super) bytes: Vec<u8>,
    /// Where it is in the file.
    pub(super) span: Range<usize>,
    /// False where it is only a piece: too long, or with a quote that is never closed.
    pub(super) whole: bool,
}

/// Splits a file into records.
pub(super) struct CsvRecords<R> {
    reader: R,
    pub(super) dialect: Dialect,
    /// Lines that were read ahead in search of a quote's end.
    pending: VecDeque<Line>,
    recoveries: u32,
    /// Bytes of the file in the records so far.
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

    /// A record that has no end: its first line alone is given up, while recoveries last.
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

    /// The next `length` bytes of the file, which are a record's.
    fn span(&mut self, length: usize) -> Range<usize> {
        let start = self.read;
        self.read += length;
        start..self.read
    }
}

/// Where in a record a character stands. Those that matter are ASCII, so that the bytes
/// of a record may be walked as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    /// At the beginning of a cell: a quote opens it.
    Start,
    /// In a cell without quotes, or after its closing quote.
    Plain,
    /// Between quotes, where line breaks are text.
    Quoted,
    /// After a quote between quotes: the closing one, or the first of two.
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

/// The columns of a text, if `separator` is between them; none where the header cannot be read.
pub(super) fn header(text: &[u8], separator: char) -> Vec<String> {
    let dialect = Dialect { separator, ..Dialect::default() };
    let end = header_end(text, separator);
    let header = text.get(..end.min(ROW_LIMIT)).and_then(|header| std::str::from_utf8(header).ok());
    header.and_then(|header| split(header, dialect).ok()).unwrap_or_default()
}

/// What ends the lines of a text: what ends its header.
pub(super) fn line_end(text: &[u8], separator: char) -> u8 {
    let end = header_end(text, separator);
    match (text.get(end), text.get(end + 1)) {
        (Some(b'\r'), next) if next != Some(&b'\n') => b'\r',
        _ => b'\n',
    }
}

/// Where the header ends: its first line end that is not between quotes.
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
