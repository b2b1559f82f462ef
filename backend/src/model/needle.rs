//! Text that a client searches for.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// The longest text that can be searched for, in characters.
pub const NEEDLE_LIMIT: usize = 100;

/// A text to search for, in the form of [`fold`]. It is matched literally: no character has a special meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Needle(String);

/// The text cannot be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {NEEDLE_LIMIT} characters and no control characters")]
pub struct NotANeedle;

impl Needle {
    /// Folds `text`, without white space at its ends.
    ///
    /// # Errors
    /// [`NotANeedle`] if it is empty, too long or has a control character.
    pub fn parse(text: &str) -> Result<Self, NotANeedle> {
        if text.chars().count() > NEEDLE_LIMIT || text.contains(char::is_control) {
            return Err(NotANeedle);
        }
        let folded = fold(text.trim());
        if folded.is_empty() { Err(NotANeedle) } else { Ok(Self(folded)) }
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text`, which is not folded, contains it.
    pub fn is_in(&self, text: &str) -> bool {
        fold(text).contains(&self.0)
    }
}

impl fmt::Display for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Needle {
    type Error = NotANeedle;

    fn try_from(text: String) -> Result<Self, NotANeedle> {
        Self::parse(&text)
    }
}

impl From<Needle> for String {
    fn from(needle: Needle) -> Self {
        needle.0
    }
}

/// The form in which texts are compared: Unicode NFKC (UAX #15), which makes half-width and full-width forms equal, and
/// lower case.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Again after the change of case, which can decompose a character. Character by character, so that the form of a
    // character does not depend on its neighbours, as that of a final sigma would.
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_and_case_are_the_same() {
        let needle = Needle::parse("  ＡＢＣ ｶﾞ ").unwrap();
        assert_eq!(needle.as_str(), "abc ガ");
        for text in ["xABC ガx", "ａｂｃ\u{3000}ガ", "abc カ\u{3099}"] {
            assert!(needle.is_in(text), "{text}");
        }
        assert!(!needle.is_in("abcガ"));
    }

    #[test]
    fn nothing_is_a_pattern() {
        let needle = Needle::parse(".*").unwrap();
        assert!(needle.is_in("a.*b"));
        assert!(!needle.is_in("ab"));
    }

    #[test]
    fn a_needle_is_bounded() {
        assert!(Needle::parse(&"あ".repeat(NEEDLE_LIMIT)).is_ok());
        for bad in ["", "  ", "a\nb", "\0", &"a".repeat(NEEDLE_LIMIT + 1)] {
            assert_eq!(Needle::parse(bad), Err(NotANeedle));
        }
    }
}
