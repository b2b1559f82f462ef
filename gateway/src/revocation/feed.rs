//! The backend's feed: newline-delimited JSON objects that name what changed, with beats in between. Pure: it decodes
//! bytes into events.

use serde_json::Value;

use crate::token::json_object;

/// The maximum length of a line, in bytes: an identity of maximum length with each byte escaped.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// The feed starts; this is its id.
    Start(String),
    /// All changes until now have been sent.
    Beat,
    /// The account of this identity changed.
    AccountChanged(String),
    /// The responses of this path changed.
    Purge(String),
    /// All responses may have changed.
    PurgeAll,
    /// Anything may have changed: `reset`, or an unknown line.
    Reset,
}

/// A line is too long, or is not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed line in the feed")]
pub struct InvalidFeed;

/// Decodes the feed. Contains the incomplete last line.
#[derive(Debug, Default)]
pub struct FeedDecoder(Vec<u8>);

impl FeedDecoder {
    /// Decodes the next piece, and returns the events of the lines that it completes.
    ///
    /// # Errors
    /// [`InvalidFeed`]. The rest of the feed must not be used then.
    pub fn decode(&mut self, piece: &[u8]) -> Result<Vec<FeedEvent>, InvalidFeed> {
        self.0.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            if end > MAX_LINE_BYTES {
                return Err(InvalidFeed);
            }
            let line: Vec<u8> = self.0.drain(..=end).collect();
            events.push(parse_line(&line)?);
        }
        if self.0.len() > MAX_LINE_BYTES { Err(InvalidFeed) } else { Ok(events) }
    }
}

fn parse_line(line: &[u8]) -> Result<FeedEvent, InvalidFeed> {
    let members = json_object(line).map_err(|_| InvalidFeed)?;
    let mut members = members.into_iter();
    Ok(match (members.next(), members.next()) {
        (Some((name, value)), None) => match (name.as_str(), value) {
            ("feed", Value::String(id)) => FeedEvent::Start(id),
            ("beat", Value::Number(_)) => FeedEvent::Beat,
            ("identity", Value::String(identity)) => FeedEvent::AccountChanged(identity),
            ("purge", Value::String(path)) => FeedEvent::Purge(path),
            ("purge_all", Value::Bool(true)) => FeedEvent::PurgeAll,
            _ => FeedEvent::Reset,
        },
        _ => FeedEvent::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_do_not_depend_on_the_pieces_that_arrive() {
        let text = "{\"feed\":\"00ff\"}\n{\"beat\":1}\n{\"identity\":\"ユーザー\"}\n{\"reset\":true}\n{\"purge\":\"/x\"}\n{\"purge_all\":true}\n{\"purge_all\":false}\n{}\n{\"beat\":2,\"a\":1}\n";
        let expected = [
            FeedEvent::Start("00ff".to_owned()),
            FeedEvent::Beat,
            FeedEvent::AccountChanged("ユーザー".to_owned()),
            FeedEvent::Reset,
            FeedEvent::Purge("/x".to_owned()),
            FeedEvent::PurgeAll,
            FeedEvent::Reset,
            FeedEvent::Reset,
            FeedEvent::Reset,
        ];
        for size in 1..text.len() {
            let mut decoder = FeedDecoder::default();
            let events: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|piece| decoder.decode(piece).unwrap()).collect();
            assert_eq!(events, expected, "by {size}");
        }
    }

    #[test]
    fn the_maximum_length_of_a_line_does_not_depend_on_the_pieces_that_arrive() {
        for (length, is_feed) in [(MAX_LINE_BYTES, true), (MAX_LINE_BYTES + 1, false)] {
            let beat = "{\"beat\":1}";
            let line = format!("{beat}{}\n", " ".repeat(length - beat.len()));
            for size in [1024, MAX_LINE_BYTES, line.len()] {
                let mut decoder = FeedDecoder::default();
                let decoded: Result<Vec<_>, _> =
                    line.as_bytes().chunks(size).map(|piece| decoder.decode(piece)).collect();
                assert_eq!(decoded.is_ok(), is_feed, "{length} by {size}");
            }
        }
    }

    #[test]
    fn a_malformed_line_is_an_error() {
        for text in ["<html>\n", "[]\n", "\n", "{\"beat\":1}{\"beat\":2}\n", "{\"beat\":1,\"beat\":2}\n"] {
            assert_eq!(FeedDecoder::default().decode(text.as_bytes()), Err(InvalidFeed), "{text}");
        }
        assert_eq!(FeedDecoder::default().decode(&vec![b' '; MAX_LINE_BYTES + 1]), Err(InvalidFeed));
    }
}
