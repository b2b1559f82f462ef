//! The delivered events of a calendar feed, from which the revisions of its events are determined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The events that a feed has delivered. It is stored for each feed, so that an event that leaves the feed, for whatever
/// reason, is cancelled in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// By UID.
    pub events: BTreeMap<String, DeliveredEvent>,
}

/// The greatest `SEQUENCE` (RFC 5545, section 3.3.8).
pub const SEQUENCE_LIMIT: i64 = i32::MAX as i64;

/// The longest UID, in bytes.
const UID_LIMIT: usize = 255;

impl Delivered {
    /// Whether each event can be delivered again: its UID is of ASCII characters that need no escape in a content line,
    /// and its `SEQUENCE` is in the range of an integer. Another program may have written a stored state.
    pub fn is_valid(&self) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'\\');
        let is_uid = |uid: &str| (1..=UID_LIMIT).contains(&uid.len()) && uid.bytes().all(is_plain);
        self.events.iter().all(|(uid, event)| is_uid(uid) && (0..=SEQUENCE_LIMIT).contains(&event.sequence))
    }
}

/// The last delivered state of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredEvent {
    /// A digest of the delivered properties.
    pub digest: String,
    /// `SEQUENCE`: 0 to 2,147,483,647.
    pub sequence: i64,
    /// `LAST-MODIFIED`, in seconds since the Unix epoch.
    pub modified: i64,
    /// The start, in seconds since the Unix epoch.
    pub starts_at: i64,
    /// The beginning of the summary, for a cancellation.
    pub summary: String,
    /// When it left the feed, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<i64>,
}

/// [`Delivered`] as stored, with the number of the write, by which a concurrent one is detected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveredRevision {
    /// 0 if nothing is stored.
    pub revision: i64,
    /// The stored state.
    pub delivered: Delivered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_uids_and_sequences_of_32_bits_are_valid() {
        let is_valid = |uid: &str, sequence| {
            let event = DeliveredEvent {
                digest: "d".into(),
                sequence,
                modified: 1,
                starts_at: 1,
                summary: "a\r\nb".into(),
                cancelled_at: None,
            };
            Delivered { events: [(uid.to_owned(), event)].into() }.is_valid()
        };
        assert!(Delivered::default().is_valid());
        for uid in ["a_-Z9@video.holodule.invalid", "0", &"a".repeat(255)] {
            assert!(is_valid(uid, 0) && is_valid(uid, SEQUENCE_LIMIT), "{uid}");
        }
        for uid in ["", "a\r\nX:1", "a\n", "a b", "a,b", "a;b", "a\\b", "a\u{85}", "夜", &"a".repeat(256)] {
            assert!(!is_valid(uid, 0), "{uid}");
        }
        for sequence in [-1, SEQUENCE_LIMIT + 1, i64::MIN, i64::MAX] {
            assert!(!is_valid("a@video.holodule.invalid", sequence), "{sequence}");
        }
    }
}
