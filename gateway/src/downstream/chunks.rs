//! Finds the end of a chunked body (RFC 9112, section 7.1) by a strict reading of the grammar.
//!
//! Lenient parsers accept an empty line as size 0, a bare LF within an extension, or a malformed trailer. If
//! the proxy in front of the gateway is strict and the gateway lenient, the two disagree on where the next
//! request begins.

use std::io;

use crate::syntax::is_tchar;

/// Maximum length of one size line, or of all trailers together, in bytes.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// Maximum number of hexadecimal digits of a chunk size: 64 bits.
const MAX_DIGITS: u8 = 16;

/// Tracks one chunked body across reads of any size.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// Bytes of the current chunk that have not arrived yet.
    left: u64,
    digits: u8,
    /// Length so far of the current size line, or of all trailers.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer name.
    Name,
    Value,
    ValueEnd,
    /// After the CR of the final empty line.
    LastLf,
    Ended,
}

impl Default for Chunks {
    /// Starts at the first byte after the head.
    fn default() -> Self {
        Self { state: State::Size, left: 0, digits: 0, line: 0 }
    }
}

impl Chunks {
    /// Returns whether the end of the body was reached.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Consumes the next `bytes` and returns how many of them belong to this body.
    ///
    /// # Errors
    /// `InvalidData` if the bytes violate the chunked grammar.
    pub fn follow(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Ended => break,
                State::Data => {
                    let here = self.left.min((bytes.len() - at) as u64);
                    self.left -= here;
                    // At most the length of `bytes`, so the conversion cannot fail.
                    at += usize::try_from(here).unwrap_or(bytes.len());
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    continue;
                }
                _ => self
                    .step(byte)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed chunked body"))?,
            }
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Option<()> {
        self.line += 1;
        if self.line > MAX_LINE_BYTES {
            return None;
        }
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => {
                let digit = char::from(byte).to_digit(16)?;
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                (self.digits <= MAX_DIGITS).then_some(State::Size)?
            }
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) if is_text(byte) => State::Extension,
            (State::SizeEnd, b'\n') => {
                (self.digits, self.line) = (0, 0);
                if self.left == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size
            }
            (State::Trailer, b'\r') => State::LastLf,
            (State::Name, b':') => State::Value,
            (State::Trailer | State::Name, _) if is_tchar(byte) => State::Name,
            (State::Value, b'\r') => State::ValueEnd,
            (State::Value, _) if is_text(byte) => State::Value,
            (State::ValueEnd, b'\n') => State::Trailer,
            (State::LastLf, b'\n') => State::Ended,
            _ => return None,
        };
        Some(())
    }
}

/// Control characters other than tab are rejected: other parsers may treat them as line ends.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bytes that belong to the body when read in pieces of `size`; `None` if it is malformed.
    fn follow(body: &str, size: usize) -> Option<usize> {
        let mut chunks = Chunks::default();
        let mut count = 0;
        for piece in body.as_bytes().chunks(size) {
            count += chunks.follow(piece).ok()?;
        }
        assert!(chunks.ended() || count == body.len(), "{body:?}");
        Some(count)
    }

    #[test]
    fn finds_the_end_of_the_body_for_every_split() {
        for body in [
            "0\r\n\r\n",
            "3\r\nx=1\r\n0\r\n\r\n",
            "A;a=b;c=\"d\"\r\n0123\r\n6789\r\n00\r\n\r\n",
            "000000000000000f\r\n0123456789abcde\r\n0;x\r\nX-A: b\r\nX-B:\tc\r\n\r\n",
        ] {
            let with_next = format!("{body}GET / HTTP/1.1\r\n");
            for size in 1..with_next.len() {
                assert_eq!(follow(&with_next, size), Some(body.len()), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn rejects_malformed_bodies() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(MAX_LINE_BYTES));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MAX_LINE_BYTES / 6 + 1));
        for body in [
            "\r\n\r\n",
            "3\nx=1\r\n0\r\n\r\n",
            "3\r\nx=1\n0\r\n\r\n",
            "3\r\nx=12\r\n0\r\n\r\n",
            "3;a\nb\r\nx=1\r\n0\r\n\r\n",
            "3;a\rb\r\nx=1\r\n0\r\n\r\n",
            "3 \r\nx=1\r\n0\r\n\r\n",
            " 3\r\nx=1\r\n0\r\n\r\n",
            "+3\r\nx=1\r\n0\r\n\r\n",
            "-1\r\n",
            "0x3\r\nx=1\r\n0\r\n\r\n",
            ";a\r\n\r\n",
            "00000000000000003\r\nx=1\r\n0\r\n\r\n",
            "10000000000000003\r\nx=1\r\n0\r\n\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n\n",
            &long,
            &trailers,
        ] {
            assert_eq!(follow(body, body.len()), None, "{body:?}");
            assert_eq!(follow(body, 1), None, "{body:?}");
        }
    }

    #[test]
    fn largest_chunk_size_does_not_overflow() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.follow(b"ffffffffffffffff\r\nabc").unwrap(), 21);
        assert!(!chunks.ended());
    }
}
