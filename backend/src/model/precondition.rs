//! What must be stored for a write to happen, so that two writers do not overwrite each other.

use aws_lc_rs::digest::{SHA256, digest};

use super::Holodule;
use crate::hex;

/// Bytes of the SHA-256 digest in an entity tag.
const TAG_BYTES: usize = 16;

/// The versions that a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Any stored version.
    Any,
    /// Those with one of these entity tags, with their quotes.
    Tagged(Vec<String>),
}

impl Versions {
    fn contain(&self, stored: Option<&Holodule>) -> bool {
        match self {
            Self::Any => true,
            // What cannot be read has no tag.
            Self::Tagged(tags) => stored.and_then(entity_tag).is_some_and(|tag| tags.contains(&tag)),
        }
    }
}

/// A condition of a write. The default is always met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The stored holodule must be one of these, and so must exist (`If-Match`).
    pub one_of: Option<Versions>,
    /// The stored holodule must be none of these; it may be missing (`If-None-Match`).
    pub none_of: Option<Versions>,
}

impl Precondition {
    /// Whether there is no condition.
    pub fn is_none(&self) -> bool {
        self.one_of.is_none() && self.none_of.is_none()
    }

    /// Whether the condition is met if nothing is stored.
    pub fn allows_missing(&self) -> bool {
        self.one_of.is_none()
    }

    /// Whether the condition is met by a stored holodule; `None` is one that cannot be read.
    pub fn allows(&self, stored: Option<&Holodule>) -> bool {
        self.one_of.as_ref().is_none_or(|versions| versions.contain(stored))
            && !self.none_of.as_ref().is_some_and(|versions| versions.contain(stored))
    }
}

/// The strong entity tag of a holodule (RFC 9110, section 8.8.3), a digest of its JSON; `None` if it has none.
pub fn entity_tag(holodule: &Holodule) -> Option<String> {
    serde_json::to_vec(holodule).ok().map(|json| tag_of(&json))
}

/// The strong entity tag of these bytes, with its quotes.
pub fn tag_of(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    let tag = hash.as_ref().get(..TAG_BYTES).unwrap_or_default();
    format!("\"{}\"", hex::encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_about_the_stored_version() {
        let holodule = |title: &str| Holodule { title: Some(title.into()), ..Holodule::default() };
        let (a, b) = (holodule("a"), holodule("b"));
        let tagged = |holodule: &Holodule| Some(Versions::Tagged(vec!["\"x\"".into(), entity_tag(holodule).unwrap()]));
        let none = Precondition::default();
        assert!(none.is_none() && none.allows_missing() && none.allows(Some(&a)) && none.allows(None));
        let of_a = Precondition { one_of: tagged(&a), none_of: None };
        assert!(of_a.allows(Some(&a)) && !of_a.allows(Some(&b)) && !of_a.allows(None) && !of_a.allows_missing());
        let any = Precondition { one_of: Some(Versions::Any), none_of: None };
        assert!(any.allows(Some(&a)) && any.allows(None) && !any.allows_missing());
        let new = Precondition { one_of: None, none_of: Some(Versions::Any) };
        assert!(!new.allows(Some(&a)) && !new.allows(None) && new.allows_missing());
        let not_a = Precondition { one_of: None, none_of: tagged(&a) };
        assert!(!not_a.allows(Some(&a)) && not_a.allows(Some(&b)) && not_a.allows(None) && not_a.allows_missing());
    }

    #[test]
    fn the_tag_is_of_the_content() {
        assert_eq!(tag_of(b"a"), tag_of(b"a"));
        assert_ne!(tag_of(b"a"), tag_of(b"b"));
        assert_eq!(tag_of(b"").len(), 34);
    }
}
