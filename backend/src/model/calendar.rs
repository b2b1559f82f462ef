//! Calendar feeds: their filters, and the key that grants access to one.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::identifier::{Invalid, LineBreaks, text};
use super::selection::Filter;
use crate::hex::{self, NoRandomness};

/// The maximum number of calendar feeds of a user.
pub const CALENDARS_LIMIT: usize = 20;
/// The longest label of a calendar feed, in characters.
pub const CALENDAR_LABEL_LIMIT: usize = 128;

/// The digits of a key.
const KEY_DIGITS: usize = 64;

/// The secret in the path of a calendar feed: 256 random bits as 64 lower-case hexadecimal digits. Its `Debug` form
/// does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct CalendarKey(String);

/// The stored form of a [`CalendarKey`]: SHA-256, as 64 lower-case hexadecimal digits. A slow hash would add nothing:
/// 2^256 keys cannot be tried. And because it is deterministic, a feed is found by it through an index, so that the time
/// of a lookup reveals nothing about any key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(String);

/// The text is not a hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hash of a calendar key")]
pub struct NotAKeyHash;

impl CalendarKey {
    /// A new key.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> Result<Self, NoRandomness> {
        hex::random_key().map(Self)
    }

    /// Parses a key; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        is_digits(text).then(|| Self(text.to_owned()))
    }

    /// The text for the client.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The stored form.
    pub fn hash(&self) -> KeyHash {
        KeyHash(hex::encode(digest(&SHA256, self.0.as_bytes()).as_ref()))
    }
}

impl fmt::Debug for CalendarKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl KeyHash {
    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyHash {
    type Error = NotAKeyHash;

    fn try_from(text: String) -> Result<Self, NotAKeyHash> {
        if is_digits(&text) { Ok(Self(text)) } else { Err(NotAKeyHash) }
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.0
    }
}

fn is_digits(text: &str) -> bool {
    text.len() == KEY_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A calendar feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Identifies it to its owner: 32 hexadecimal digits. It is not a key.
    pub id: String,
    /// The name of the user to whom it belongs.
    pub owner: String,
    /// The `id` of that user, which distinguishes users of the same name. `None` if the user has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The hash of its key.
    pub key_hash: KeyHash,
    /// The name that calendar programs show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The filter that selects its holodules.
    pub filter: Filter,
    /// The time of creation, in seconds since the Unix epoch.
    pub created_at: i64,
}

impl Calendar {
    /// Checks a label: 1 to [`CALENDAR_LABEL_LIMIT`] characters, no control characters.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn check_label(label: &str) -> Result<(), Invalid> {
        if label.is_empty() {
            return Err(Invalid::new("label", "must not be empty"));
        }
        if label.chars().count() > CALENDAR_LABEL_LIMIT {
            return Err(Invalid::new("label", format!("must not be longer than {CALENDAR_LABEL_LIMIT} characters")));
        }
        text("label", Some(label), label.len(), LineBreaks::Forbidden)
    }

    /// Whether it belongs to the user with this `id`, among those with the name of its owner.
    pub fn is_of(&self, id: Option<&str>) -> bool {
        self.owner_id.is_none() || self.owner_id.as_deref() == id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_random_and_its_hash_is_stored() {
        let key = CalendarKey::random().unwrap();
        assert_ne!(key, CalendarKey::random().unwrap());
        assert_eq!(CalendarKey::parse(key.expose()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), "[secret]");
        assert_ne!(key.hash().as_str(), key.expose());
        // Computed with sha256sum.
        let zeros = CalendarKey::parse(&"0".repeat(64)).unwrap();
        assert_eq!(zeros.hash().as_str(), "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55");
    }

    #[test]
    fn other_texts_are_no_keys() {
        for bad in
            ["", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"g".repeat(64), &format!("{} ", "0".repeat(63))]
        {
            assert_eq!(CalendarKey::parse(bad), None, "{bad}");
            assert_eq!(KeyHash::try_from(bad.to_owned()), Err(NotAKeyHash), "{bad}");
        }
    }

    #[test]
    fn a_label_is_bounded() {
        for good in ["a", "推しの配信", &"a".repeat(CALENDAR_LABEL_LIMIT), &"あ".repeat(CALENDAR_LABEL_LIMIT)] {
            Calendar::check_label(good).unwrap();
        }
        for bad in ["", "a\nb", &"a".repeat(CALENDAR_LABEL_LIMIT + 1)] {
            assert_eq!(Calendar::check_label(bad).unwrap_err().field, "label");
        }
    }

    #[test]
    fn a_feed_belongs_to_one_of_the_users_of_a_name() {
        let of = |owner_id: Option<&str>| Calendar {
            id: "0".into(),
            owner: "user01".into(),
            owner_id: owner_id.map(Into::into),
            key_hash: CalendarKey::random().unwrap().hash(),
            label: None,
            filter: Filter::default(),
            created_at: 0,
        };
        assert!(of(Some("1")).is_of(Some("1")));
        assert!(!of(Some("1")).is_of(Some("2")) && !of(Some("1")).is_of(None));
        assert!(of(None).is_of(Some("2")) && of(None).is_of(None));
    }
}
