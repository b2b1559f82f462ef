//! The parts that all views use: the language, and links that retain it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::language::Language;
use super::texts::{Text, fill};

/// All but the unreserved characters (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The view that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The language.
    pub(crate) language: Language,
    /// Whether the address has the language, so that links to other views have it too.
    pub(crate) is_chosen: bool,
    /// The path of the address.
    pub(crate) path: String,
    /// The parameters of the address, without the language.
    pub(crate) query: Vec<(String, String)>,
}

impl View {
    pub(super) fn text(&self, text: Text) -> &'static str {
        text.of(self.language)
    }

    pub(super) fn fill(&self, text: Text, values: &[(&str, &str)]) -> String {
        fill(text.of(self.language), values)
    }

    /// A link to another view in the same language.
    pub(super) fn link(&self, path: &str, query: &[(&str, &str)]) -> String {
        let language = self.is_chosen.then(|| ("lang", self.language.tag()));
        address(path, query.iter().copied().chain(language))
    }

    /// A link to this view in another language.
    pub(super) fn in_language(&self, language: Language) -> String {
        let query = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        address(&self.path, query.chain([("lang", language.tag())]))
    }

    /// The number of streams in words.
    pub(super) fn streams(&self, count: u64) -> String {
        match count {
            1 => self.text(super::texts::ONE_STREAM).to_owned(),
            _ => self.fill(super::texts::STREAMS, &[("count", &count.to_string())]),
        }
    }
}

fn address<'a>(path: &str, query: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut address = path.to_owned();
    for (position, (name, value)) in query.enumerate() {
        address.push(if position == 0 { '?' } else { '&' });
        address.extend(utf8_percent_encode(name, ENCODED));
        address.push('=');
        address.extend(utf8_percent_encode(value, ENCODED));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_the_chosen_language() {
        let view = View {
            language: Language::Japanese,
            is_chosen: true,
            path: "/".to_owned(),
            query: vec![("day".to_owned(), "2020-12-09".to_owned())],
        };
        assert_eq!(view.link("/page/search", &[("q", "a&b é")]), "/page/search?q=a%26b%20%C3%A9&lang=ja");
        assert_eq!(view.in_language(Language::English), "/?day=2020-12-09&lang=en");
        let negotiated = View { is_chosen: false, ..view };
        assert_eq!(negotiated.link("/", &[]), "/");
    }
}
