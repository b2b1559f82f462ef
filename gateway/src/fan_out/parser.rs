//! Parses an event stream into its blocks (the HTML standard, sections 9.2.5 and 9.2.6).

use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// The maximum size of a block, in bytes.
pub(super) const EVENT_LIMIT: usize = 20 << 20;
/// The name of events with the complete state of a stream.
const SNAPSHOT: &[u8] = b"snapshot";
/// A field of an event, in seconds: see [`Event::expires_at`].
const MAX_AGE: &[u8] = b"max-age";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A block of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A block with data or an id.
    Event(Event),
    /// A block that only sets the time after which clients reconnect.
    Retry(Bytes),
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The id of this event, or of the last one before it that has an id; empty if none has.
    pub(super) id: Bytes,
    pub(super) is_snapshot: bool,
    /// From this time on, a listener that has not received it gets only its id; `None` for no limit.
    pub(super) expires_at: Option<Instant>,
    /// Its lines without comments and the field `max-age`, each ending with a line feed, and an empty line.
    pub(super) block: Bytes,
}

/// A block exceeds [`EVENT_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event exceeds {} MiB", EVENT_LIMIT >> 20)]
pub(super) struct TooLarge;

/// The parser of one response.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The lines of the block, the last of which may be incomplete.
    block: Vec<u8>,
    /// The offset of the last line in `block`.
    line: usize,
    /// Whether the last line ended with a carriage return, which a line feed may follow.
    has_return: bool,
    /// Whether the first line has been read, which may begin with a byte order mark.
    has_begun: bool,
    id: Bytes,
    has_id: bool,
    has_data: bool,
    has_retry: bool,
    is_snapshot: bool,
    max_age: Option<Duration>,
}

impl Parser {
    /// Reads further data, and adds the blocks that are complete to `blocks`. An incomplete one at the end of the response
    /// is not an event.
    ///
    /// # Errors
    /// [`TooLarge`]; the parser cannot be used any more.
    pub(super) fn read(&mut self, mut data: &[u8], blocks: &mut Vec<Block>) -> Result<(), TooLarge> {
        if data.is_empty() {
            return Ok(());
        }
        if mem::take(&mut self.has_return) {
            data = data.strip_prefix(b"\n").unwrap_or(data);
        }
        while let Some(end) = data.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = data.split_at(end);
            self.add(line)?;
            data = match rest {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => rest,
            };
            self.has_return = rest == b"\r";
            blocks.extend(self.end_line());
        }
        self.add(data)
    }

    fn add(&mut self, data: &[u8]) -> Result<(), TooLarge> {
        if self.block.len() + data.len() > EVENT_LIMIT {
            return Err(TooLarge);
        }
        self.block.extend_from_slice(data);
        Ok(())
    }

    /// Ends a line, and returns the block if it was empty.
    fn end_line(&mut self) -> Option<Block> {
        if !mem::replace(&mut self.has_begun, true) && self.block.starts_with(BYTE_ORDER_MARK) {
            self.block.drain(..BYTE_ORDER_MARK.len());
        }
        let line = self.block.get(self.line..).unwrap_or_default();
        if line.is_empty() {
            return self.end_block();
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match name {
            // A comment.
            b"" => {
                self.block.truncate(self.line);
                return None;
            }
            b"data" => self.has_data = true,
            b"event" => self.is_snapshot = value == SNAPSHOT,
            b"id" if !value.contains(&0) => {
                self.has_id = true;
                self.id = Bytes::copy_from_slice(value);
            }
            b"retry" => self.has_retry = true,
            // Between a service and the gateway only: clients ignore unknown fields.
            MAX_AGE => {
                self.max_age = str::from_utf8(value).ok().and_then(|value| value.parse().ok()).map(Duration::from_secs);
                self.block.truncate(self.line);
                return None;
            }
            _ => {}
        }
        self.block.push(b'\n');
        self.line = self.block.len();
        None
    }

    fn end_block(&mut self) -> Option<Block> {
        let mut block = mem::take(&mut self.block);
        self.line = 0;
        let (has_data, has_id, has_retry) =
            (mem::take(&mut self.has_data), mem::take(&mut self.has_id), mem::take(&mut self.has_retry));
        let is_snapshot = mem::take(&mut self.is_snapshot);
        // A snapshot is always needed.
        let max_age = mem::take(&mut self.max_age).filter(|_| !is_snapshot);
        if !has_data && !has_id && !has_retry {
            return None;
        }
        block.push(b'\n');
        block.shrink_to_fit();
        let block = Bytes::from(block);
        Some(if has_data || has_id {
            let expires_at = max_age.and_then(|age| Instant::now().checked_add(age));
            Block::Event(Event { id: self.id.clone(), is_snapshot: is_snapshot && has_data, expires_at, block })
        } else {
            Block::Retry(block)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &'static str, is_snapshot: bool, block: &'static str) -> Block {
        let block = Bytes::from_static(block.as_bytes());
        Block::Event(Event { id: Bytes::from_static(id.as_bytes()), is_snapshot, expires_at: None, block })
    }

    fn parse(chunks: &[&[u8]]) -> Vec<Block> {
        let (mut parser, mut blocks) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.read(chunk, &mut blocks).unwrap();
        }
        blocks
    }

    #[test]
    fn blocks_end_with_an_empty_line() {
        let stream = b"retry: 5\n\n:hello\n\nevent: snapshot\nid: 1\ndata: a\ndata: b\n\n: c\ndata\n\nid\n\nx: y\n\ndata: incomplete\n";
        let expected = [
            Block::Retry(Bytes::from_static(b"retry: 5\n\n")),
            event("1", true, "event: snapshot\nid: 1\ndata: a\ndata: b\n\n"),
            event("1", false, "data\n\n"),
            event("", false, "id\n\n"),
        ];
        assert_eq!(parse(&[stream]), expected);
        for size in 1..8 {
            let chunks: Vec<_> = stream.chunks(size).collect();
            assert_eq!(parse(&chunks), expected, "{size}");
        }
    }

    #[test]
    fn all_ends_of_lines_are_the_same() {
        let expected = [event("1", false, "id: 1\ndata: a\n\n"), event("1", false, "data: b\n\n")];
        for end in ["\n", "\r\n", "\r"] {
            let text = "id: 1\ndata: a\n\ndata: b\n\n".replace('\n', end);
            for size in 1..8 {
                let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
                assert_eq!(parse(&chunks), expected, "{end:?} {size}");
            }
        }
        assert_eq!(parse(&[b"data: a\r", b"", b"\n\r\n"]).len(), 1);
    }

    #[test]
    fn fields_are_those_of_the_standard() {
        assert_eq!(parse(&["\u{feff}data:a\n\n".as_bytes()]), [event("", false, "data:a\n\n")]);
        let kept = b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n";
        assert_eq!(parse(&[kept])[1], event("1", false, "id: 2\0\ndata: b\n\n"));
        assert_eq!(parse(&[b"event:snapshot\ndata:\n\n"]), [event("", true, "event:snapshot\ndata:\n\n")]);
        assert_eq!(parse(&[b"event:  snapshot\ndata:\n\n"]), [event("", false, "event:  snapshot\ndata:\n\n")]);
        assert_eq!(parse(&[b"event: snapshot\n\n"]), [], "no data, no event");
        assert_eq!(parse(&[b"event: snapshot\nid: 1\n\n"]), [event("1", false, "event: snapshot\nid: 1\n\n")]);
    }

    #[test]
    fn the_maximum_age_is_not_part_of_the_block() {
        let before = Instant::now();
        let blocks = parse(&[b"event: start\nmax-age: 10\nid: 1\ndata: a\n\ndata: b\n\n"]);
        let [Block::Event(first), Block::Event(second)] = &blocks[..] else { panic!("{blocks:?}") };
        assert_eq!(first.block, "event: start\nid: 1\ndata: a\n\n");
        let after = Instant::now();
        let age = Duration::from_secs(10);
        assert!(first.expires_at.is_some_and(|at| before + age <= at && at <= after + age));
        assert_eq!(second.expires_at, None, "of one event only");
        for ignored in
            [&b"event: snapshot\nmax-age: 1\ndata: a\n\n"[..], b"max-age: -1\ndata: a\n\n", b"max-age\ndata: a\n\n"]
        {
            let blocks = parse(&[ignored]);
            assert!(matches!(&blocks[..], [Block::Event(Event { expires_at: None, .. })]), "{blocks:?}");
        }
        assert_eq!(parse(&[b"max-age: 1\n\n"]), []);
    }

    #[test]
    fn a_block_is_bounded() {
        let (mut parser, mut blocks) = (Parser::default(), Vec::new());
        let line = [b"data: ".as_slice(), &[b'a'; 1 << 20], b"\n"].concat();
        let read = (0..20).try_for_each(|_| parser.read(&line, &mut blocks));
        assert_eq!((read, blocks.len()), (Err(TooLarge), 0));
        // Comments are not part of it.
        let mut parser = Parser::default();
        let comment = [b":".as_slice(), &[b'a'; 1 << 20], b"\n"].concat();
        assert!((0..40).all(|_| parser.read(&comment, &mut blocks).is_ok()));
    }
}
