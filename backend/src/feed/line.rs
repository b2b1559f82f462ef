//! What the feed says, a line at a time.

use bytes::Bytes;
use serde::Serialize;

use crate::model::Day;

/// One line of the feed: an object of one member. Readers that do not know its name take it for
/// [`Event::Reset`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Event<'a> {
    /// The first: which process this is.
    Feed {
        /// 32 hexadecimal digits.
        feed: &'a str,
    },
    /// Whatever was told of this identity may be wrong now.
    Identity {
        /// As it was asked about.
        identity: &'a str,
    },
    /// Whatever was told of anybody may be.
    Reset {
        /// Always true.
        reset: bool,
    },
    /// The answer to this path may be another now.
    Purge {
        /// As the api listener serves it, in its one canonical form.
        purge: &'a str,
    },
    /// The answer to any path may be.
    PurgeAll {
        /// Always true.
        purge_all: bool,
    },
    /// All that had changed of anybody half a second ago has been told.
    Beat {
        /// Counts up.
        beat: u64,
    },
}

impl Event<'_> {
    pub(super) fn bytes(&self) -> Bytes {
        // Nothing of it is a map or could otherwise fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

/// Where the api listener serves a day.
pub(super) fn path(day: Day) -> String {
    format!("/holodules/{day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_object() {
        let line = |line: Event<'_>| String::from_utf8(line.bytes().to_vec()).unwrap();
        assert_eq!(line(Event::Identity { identity: "a\n\"b" }), "{\"identity\":\"a\\n\\\"b\"}\n");
        assert_eq!(line(Event::Reset { reset: true }), "{\"reset\":true}\n");
        let day = path(Day::parse("20201209").unwrap());
        assert_eq!(line(Event::Purge { purge: &day }), "{\"purge\":\"/holodules/20201209\"}\n");
        assert_eq!(line(Event::PurgeAll { purge_all: true }), "{\"purge_all\":true}\n");
    }
}
