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
    let mut folded = String::with_capacity(text.len());
    let mut characters = text.char_indices().peekable();
    while let Some((start, character)) = characters.next() {
        let is_alone = characters.peek().is_none_or(|(_, next)| is_plain(*next));
        if is_alone && is_plain(character) {
            folded.push(character.to_ascii_lowercase());
            continue;
        }
        // Up to the next plain character, which does not change with those before it.
        while characters.next_if(|(_, next)| !is_plain(*next)).is_some() {}
        let end = characters.peek().map_or(text.len(), |(end, _)| *end);
        folded.extend(fold_any(text.get(start..end).unwrap_or_default()));
    }
    folded
}

/// The folded texts as one, in which a needle is found if it is in one of them: NUL, which no needle contains, is
/// between them. Empty texts are left out.
pub fn fold_together<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut folded = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        if !folded.is_empty() {
            folded.push('\0');
        }
        folded.push_str(&fold(text));
    }
    folded
}

fn fold_any(text: &str) -> impl Iterator<Item = char> {
    // Again after the change of case, which can decompose a character. Character by character, so that the form of a
    // character does not depend on its neighbours, as that of a final sigma would.
    text.nfkc().flat_map(char::to_lowercase).nfkc()
}

/// Whether folding changes only the case of a character, and never combines it with those before it. Most characters of
/// Japanese text are such, and folding them one by one is ten times faster.
fn is_plain(character: char) -> bool {
    character.is_ascii()
        || matches!(character, '\u{3001}'..='\u{3029}' | '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FE}' | '\u{4E00}'..='\u{9FFF}')
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
    fn plain_characters_are_independent_of_those_before_them() {
        use unicode_normalization::{IsNormalized, is_nfkc_quick};
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| is_plain(*c)) {
            assert_eq!(is_nfkc_quick([character].into_iter()), IsNormalized::Yes, "{character:?}");
            assert!(fold_any(character.encode_utf8(&mut [0; 4])).eq([character.to_ascii_lowercase()]), "{character:?}");
        }
    }

    #[test]
    fn texts_with_plain_characters_have_the_same_form() {
        let parts = [
            "a", "Ｂ", "か", "カ", "\u{3099}", "ｶ", "ﾞ", "e\u{301}", "\u{301}", "İ", "Σ", "獅", "⽩", "각", "\u{1100}",
            "\u{1161}",
        ];
        for first in parts {
            for second in parts {
                for third in parts {
                    let text = format!("{first}{second}{third}");
                    assert_eq!(fold(&text), fold_any(&text).collect::<String>(), "{text}");
                }
            }
        }
    }

    #[test]
    fn texts_are_folded_and_separate() {
        assert_eq!(fold_together(["ＡＢ", "", "ｶﾞ"]), "ab\0ガ");
        assert_eq!(fold_together(["", "x"]), "x");
        assert_eq!(fold_together([""]), "");
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
