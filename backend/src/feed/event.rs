//! The events of the feed, one line each.

use bytes::Bytes;
use serde::Serialize;

use crate::model::Day;

/// An event: a JSON object with one member. Readers must treat an unknown member as [`Event::Reset`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Event<'a> {
    /// The first line: identifies this process.
    Feed {
        /// 32 hexadecimal digits.
        feed: &'a str,
    },
    /// The account of this identity may have changed.
    Identity {
        /// As in the request that checked it.
        identity: &'a str,
    },
    /// Any account may have changed.
    Reset {
        /// Always true.
        reset: bool,
    },
    /// The response for this path may have changed.
    Purge {
        /// The canonical path on the api listener.
        purge: &'a str,
    },
    /// Any response may have changed.
    PurgeAll {
        /// Always true.
        purge_all: bool,
    },
    /// All account changes up to half a second ago have been published.
    Beat {
        /// Increases by one with each beat.
        beat: u64,
    },
}

impl Event<'_> {
    pub(super) fn bytes(&self) -> Bytes {
        // Serialization cannot fail: there are no maps or custom serializers.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

/// The path on the api listener that represents the responses of all lists. It is the `purge_key` of the gateways'
/// list routes.
pub(super) const LISTS: &str = "/holodules";

/// The path of a day on the api listener.
pub(super) fn path(day: Day) -> String {
    format!("/holodules/{day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_object() {
        let line = |line: Event<'_>| String::from_utf8(line.bytes().to_vec()).unwrap();
        assert_eq!(line(Event::Identity { identity: "a\n\"b" }), "{\"identity\":\"a\\n\\\"b\"}\n");
        assert_eq!(line(Event::Reset { reset: true }), "{\"reset\":true}\n");
        let day = path(Day::parse("20201209").unwrap());
        assert_eq!(line(Event::Purge { purge: &day }), "{\"purge\":\"/holodules/20201209\"}\n");
        assert_eq!(line(Event::PurgeAll { purge_all: true }), "{\"purge_all\":true}\n");
    }
}
