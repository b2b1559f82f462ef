//! The backend's feed: newline-delimited JSON that names whatever has changed, and beats while
//! nothing has. Pure: bytes go in, events come out.

use serde_json::Value;

use crate::token::json_object;

/// The longest line, in bytes: an identity at its longest, each byte escaped.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// What the feed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins, and is known by this.
    Begins(String),
    /// Every change up to just now has been told.
    Beat,
    /// What was said of this identity may no longer hold.
    Changed(String),
    /// What is served under this path has changed.
    Purge(String),
    /// So may have everything that is served.
    PurgeAll,
    /// Anything may have changed. So it may where a line says what is not known here.
    Reset,
}

/// A line that is too long, or no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed is not one of revocations")]
pub struct NotAFeed;

/// What has come of the feed and is no whole line yet.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes the next piece, and tells the events in the lines that it ends.
    ///
    /// # Errors
    /// [`NotAFeed`]; what follows cannot be trusted then.
    pub fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, NotAFeed> {
        self.0.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            if end > MAX_LINE_BYTES {
                return Err(NotAFeed);
            }
            let line: Vec<u8> = self.0.drain(..=end).collect();
            events.push(event(&line)?);
        }
        if self.0.len() > MAX_LINE_BYTES { Err(NotAFeed) } else { Ok(events) }
    }
}

fn event(line: &[u8]) -> Result<Event, NotAFeed> {
    let members = json_object(line).map_err(|_| NotAFeed)?;
    let mut members = members.into_iter();
    Ok(match (members.next(), members.next()) {
        (Some((name, value)), None) => match (name.as_str(), value) {
            ("feed", Value::String(id)) => Event::Begins(id),
            ("beat", Value::Number(_)) => Event::Beat,
            ("identity", Value::String(identity)) => Event::Changed(identity),
            ("purge", Value::String(path)) => Event::Purge(path),
            ("purge_all", Value::Bool(true)) => Event::PurgeAll,
            _ => Event::Reset,
        },
        _ => Event::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whatever_pieces_the_lines_come_in() {
        let text = "{\"feed\":\"00ff\"}\n{\"beat\":1}\n{\"identity\":\"ユーザー\"}\n{\"reset\":true}\n{\"purge\":\"/x\"}\n{\"purge_all\":true}\n{\"purge_all\":false}\n{}\n{\"beat\":2,\"a\":1}\n";
        let expected = [
            Event::Begins("00ff".to_owned()),
            Event::Beat,
            Event::Changed("ユーザー".to_owned()),
            Event::Reset,
            Event::Purge("/x".to_owned()),
            Event::PurgeAll,
            Event::Reset,
            Event::Reset,
            Event::Reset,
        ];
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let events: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| lines.take(piece).unwrap()).collect();
            assert_eq!(events, expected, "by {size}");
        }
    }

    #[test]
    fn a_line_has_the_same_bound_whatever_pieces_it_comes_in() {
        for (length, is_feed) in [(MAX_LINE_BYTES, true), (MAX_LINE_BYTES + 1, false)] {
            let beat = "{\"beat\":1}";
            let line = format!("{beat}{}\n", " ".repeat(length - beat.len()));
            for size in [1024, MAX_LINE_BYTES, line.len()] {
                let mut lines = Lines::default();
                let taken: Result<Vec<_>, _> = line.as_bytes().chunks(size).map(|piece| lines.take(piece)).collect();
                assert_eq!(taken.is_ok(), is_feed, "{length} by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_feed_is_an_error() {
        for text in ["<html>\n", "[]\n", "\n", "{\"beat\":1}{\"beat\":2}\n", "{\"beat\":1,\"beat\":2}\n"] {
            assert_eq!(Lines::default().take(text.as_bytes()), Err(NotAFeed), "{text}");
        }
        assert_eq!(Lines::default().take(&vec![b' '; MAX_LINE_BYTES + 1]), Err(NotAFeed));
    }
}
