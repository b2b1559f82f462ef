//! The languages of the page and their choice.

use std::collections::BTreeMap;

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// English.
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// All languages, in the order of the links.
    pub(crate) const ALL: [Self; 2] = [Self::Japanese, Self::English];

    /// The tag of the language (RFC 5646).
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// The name of the language, in that language.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Japanese => "日本語",
        }
    }

    /// The language with this tag.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// The preferred language of an `Accept-Language` header (RFC 9110, section 12.5.4): the one with the highest weight,
    /// of equal ones the first. English if none is acceptable.
    pub(crate) fn negotiate(accept: &str) -> Self {
        let mut best = BTreeMap::new();
        for (position, range) in accept.split(',').enumerate() {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let Some(language) = Self::of_tag(tag.split('-').next().unwrap_or_default()) else { continue };
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=").map(thousandths)).unwrap_or(1000);
            if weight > 0 {
                best.entry((u16::MAX - weight, position)).or_insert(language);
            }
        }
        best.into_values().next().unwrap_or(Self::English)
    }
}

/// A weight in thousandths; 0 if it is not one.
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("1", true) => 1000,
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_with_the_highest_weight_is_used() {
        for accept in
            ["ja", "ja-JP,en;q=0.9", "en;q=0.8, JA", "fr, ja;q=0.1", "en;q=0.300,ja;q=0.301", "en;q=0, ja;q=0.5"]
        {
            assert_eq!(Language::negotiate(accept), Language::Japanese, "{accept}");
        }
        for accept in ["", "*", "fr", "en", "en-GB,ja;q=0.9", "ja;q=0", "ja;q=x, en", "ja;q=0.5,en;q=0.5001,en;q=0.6"] {
            assert_eq!(Language::negotiate(accept), Language::English, "{accept}");
        }
    }
}
