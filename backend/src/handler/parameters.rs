//! The parameters of a query string.

use std::collections::BTreeSet;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::model::FILTER_VALUES_LIMIT;
use crate::record::shown;
use crate::respond::HttpError;

/// The longest query string, in bytes.
const QUERY_LIMIT: usize = 8 * 1024;

/// A decoded query string. Names and values are percent-decoded once, and `+` is a space, as in HTML forms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
}

impl Parameters {
    /// Decodes `query`.
    ///
    /// # Errors
    /// `414` if it is longer than [`QUERY_LIMIT`], `400` if it is not percent-encoded UTF-8.
    pub(super) fn decode(query: Option<&str>) -> Result<Self, HttpError> {
        let query = query.unwrap_or_default();
        if query.len() > QUERY_LIMIT {
            return Err(HttpError::new(StatusCode::URI_TOO_LONG, format!("the query is over {QUERY_LIMIT} bytes")));
        }
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name).map_err(|why| bad(shown(name), &format!("the name of a parameter {why}")))?;
            let value = decoded(value).map_err(|why| bad(shown(&name), &format!("{} {why}", shown(&name))))?;
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// Checks that every name is one of `known`, and returns the parameters.
    ///
    /// # Errors
    /// `400` with the known names.
    pub(super) fn only(self, known: &[&'static str]) -> Result<Self, HttpError> {
        match self.pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some((name, _)) => {
                let known = known.iter().map(|name| (*name).to_owned()).collect();
                let name = shown(name);
                let description = format!("there is no parameter {name:?}");
                Err(HttpError::bad_parameter(name, description, Some(known)))
            }
        }
    }

    /// Checks that no name is repeated, and returns the parameters.
    ///
    /// # Errors
    /// `400` for the first name that is.
    pub(super) fn unrepeated(self) -> Result<Self, HttpError> {
        let mut names = BTreeSet::new();
        match self.pairs.iter().find(|(name, _)| !names.insert(name)) {
            None => Ok(self),
            Some((name, _)) => Err(bad(shown(name), &format!("{} must not be repeated", shown(name)))),
        }
    }

    /// The value of `name`, if there is one.
    ///
    /// # Errors
    /// `400` if there are several.
    pub(super) fn one(&self, name: &'static str) -> Result<Option<&str>, HttpError> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(bad(name, &format!("{name} must not be repeated"))),
        }
    }

    /// The distinct values of `name`.
    ///
    /// # Errors
    /// `400` if there are more than [`FILTER_VALUES_LIMIT`].
    pub(super) fn all(&self, name: &'static str) -> Result<BTreeSet<String>, HttpError> {
        let values: BTreeSet<String> = self.values(name).map(str::to_owned).collect();
        if values.len() > FILTER_VALUES_LIMIT {
            return Err(bad(name, &format!("{name} has more than {FILTER_VALUES_LIMIT} values")));
        }
        Ok(values)
    }

    /// The first value of `name`; `None` if it is empty or missing.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.values(name).next().filter(|value| !value.is_empty())
    }

    /// The values of `name`, in their order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All names and values, in their order.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// `400` because of the parameter `name`.
pub(super) fn bad(name: impl Into<std::borrow::Cow<'static, str>>, description: &str) -> HttpError {
    HttpError::bad_parameter(name, description.to_owned(), None)
}

/// `400` because `value` is not one of `known`.
pub(super) fn unknown(name: &'static str, value: &str, known: Vec<String>) -> HttpError {
    HttpError::bad_parameter(name, format!("there is no {name} {:?}", shown(value)), Some(known))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let is_encoded = |rest: &str| {
        let mut digits = rest.bytes();
        [digits.next(), digits.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return Err("has a % without two hexadecimal digits");
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Into::into).map_err(|_| "is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(query: &str) -> Parameters {
        Parameters::decode(Some(query)).unwrap()
    }

    #[test]
    fn names_and_values_are_decoded_once() {
        let parameters = decode("&q=a%2Bb+c%2520&&%71=%E5%A4%A2&x&y==%26");
        assert_eq!(parameters.values("q").collect::<Vec<_>>(), ["a+b c%20", "夢"]);
        assert_eq!(
            (parameters.one("x"), parameters.one("y"), parameters.one("z")),
            (Ok(Some("")), Ok(Some("=&")), Ok(None))
        );
        assert_eq!(Parameters::decode(None).unwrap(), decode(""));
    }

    #[test]
    fn what_is_not_percent_encoded_utf8_is_refused() {
        for (query, detail) in [
            ("q=%", "q has a % without two hexadecimal digits"),
            ("q=%4", "q has a % without two hexadecimal digits"),
            ("q=%+4", "q has a % without two hexadecimal digits"),
            ("q=%zz", "q has a % without two hexadecimal digits"),
            ("q=%FF", "q is not UTF-8"),
            ("q=%ED%A0%80", "q is not UTF-8"),
            ("%FF=1", "the name of a parameter is not UTF-8"),
        ] {
            let refused = Parameters::decode(Some(query)).unwrap_err();
            assert_eq!((refused.status, refused.description.as_ref()), (StatusCode::BAD_REQUEST, detail), "{query}");
        }
    }

    #[test]
    fn the_query_is_bounded() {
        assert!(Parameters::decode(Some(&"a".repeat(QUERY_LIMIT))).is_ok());
        let refused = Parameters::decode(Some(&"a".repeat(QUERY_LIMIT + 1))).unwrap_err();
        assert_eq!(refused.status, StatusCode::URI_TOO_LONG);
        let many = |count| decode(&(0..count).map(|n| format!("code={n}&")).collect::<String>());
        assert_eq!(many(FILTER_VALUES_LIMIT).all("code").unwrap().len(), FILTER_VALUES_LIMIT);
        assert!(many(FILTER_VALUES_LIMIT + 1).all("code").is_err());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        assert!(decode("a=1&b=2&a=3").only(&["a", "b"]).is_ok());
        for query in ["c=1", "A=1", "=1", "a%20=1"] {
            let refused = decode(query).only(&["a", "b"]).unwrap_err();
            let known = Some(vec!["a".to_owned(), "b".to_owned()]);
            let name = decode(query).pairs[0].0.clone();
            assert_eq!(
                refused,
                HttpError::bad_parameter(name.clone(), format!("there is no parameter {name:?}"), known)
            );
        }
    }

    #[test]
    fn a_single_value_must_not_be_repeated() {
        let refused = decode("limit=1&limit=1").one("limit").unwrap_err();
        assert_eq!(refused, bad("limit", "limit must not be repeated"));
        assert_eq!(decode("a=1&limit=1&limit=2").unrepeated(), Err(bad("limit", "limit must not be repeated")));
        assert!(decode("a=1&limit=1").unrepeated().is_ok());
    }

    #[test]
    fn the_first_value_counts_as_missing_if_it_is_empty() {
        let parameters = decode("a=&a=1&b=2&b=3&c");
        assert_eq!(["a", "b", "c", "d"].map(|name| parameters.first(name)), [None, Some("2"), None, None]);
    }
}
