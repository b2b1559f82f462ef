//! Path patterns: literal segments, and `{name}` for any one segment.

use std::fmt;

use crate::framing::{CanonicalPath, NotCanonical};

/// A path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any { name: String },
}

/// Why a text is not a valid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is not a canonical path once the names are replaced with segments.
    #[error("{0}")]
    Path(#[from] NotCanonical),
    /// A name is empty, appears twice, or has an invalid character.
    #[error("has a name that is empty, appears twice, or has a character outside A-Z a-z 0-9 _")]
    Name(String),
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] if no canonical path could ever match it.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let rest = text.strip_prefix('/').ok_or(NotCanonical::Relative)?;
        for segment in rest.split('/') {
            let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
                segments.push(Segment::Literal(segment.to_owned()));
                continue;
            };
            if name.is_empty()
                || names.contains(&name)
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return Err(InvalidPattern::Name(name.to_owned()));
            }
            names.push(name);
            segments.push(Segment::Any { name: name.to_owned() });
        }
        let pattern = Self(segments);
        CanonicalPath::parse(&pattern.fill(&vec!["x"; names.len()]))?;
        Ok(pattern)
    }

    /// Whether `path` matches. A name never matches an empty segment.
    pub fn matches(&self, path: &CanonicalPath<'_>) -> bool {
        let mut rest = path.as_str();
        for expected in &self.0 {
            let Some(segments) = rest.strip_prefix('/') else { return false };
            let left = match expected {
                Segment::Literal(literal) => {
                    let left = segments.strip_prefix(literal.as_str());
                    left.filter(|left| left.is_empty() || left.starts_with('/'))
                }
                Segment::Any { .. } => {
                    let end = segments.find('/').unwrap_or(segments.len());
                    segments.get(end..).filter(|_| end > 0)
                }
            };
            let Some(left) = left else { return false };
            rest = left;
        }
        rest.is_empty()
    }

    /// What the names take of a `path` that matches.
    pub(super) fn bindings<'a>(&self, path: &CanonicalPath<'a>) -> Vec<&'a str> {
        let pairs = self.0.iter().zip(path.segments());
        pairs.filter_map(|(expected, segment)| matches!(expected, Segment::Any { .. }).then_some(segment)).collect()
    }

    /// The path with its names replaced by `values`, in order.
    pub(super) fn fill(&self, values: &[&str]) -> String {
        let mut values = values.iter();
        self.0.iter().fold(String::new(), |mut path, segment| {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Any { .. } => values.next().copied().unwrap_or_default(),
            });
            path
        })
    }

    /// Whether both have the same names in the same order.
    pub(super) fn has_names_of(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    /// Whether it matches every path that `other` matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let covers = |(own, other): (&Segment, &Segment)| match (own, other) {
            (Segment::Any { .. }, Segment::Literal(literal)) => !literal.is_empty(),
            (Segment::Any { .. }, Segment::Any { .. }) => true,
            (Segment::Literal(own), Segment::Literal(other)) => own == other,
            (Segment::Literal(_), Segment::Any { .. }) => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(covers)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Any { name } => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }
}

/// The syntax of the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Any { name } => write!(f, "/{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_match_no_path_are_refused() {
        for text in ["", "a", "/a//b", "/a/../b", "/{}", "/{a}/{a}", "/{a b}", "/a{b}", "/a;b", "/é"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_matches_one_segment_that_is_not_empty() {
        let pattern = Pattern::parse("/a/{b}/c").unwrap();
        let matches = |path| pattern.matches(&CanonicalPath::parse(path).unwrap());
        assert!(matches("/a/x/c") && matches("/a/%E3%83%9B/c"));
        assert!(!matches("/a/c") && !matches("/a/x/y/c") && !matches("/a/x/c/") && !matches("/A/x/c"));
        assert!(!matches("/a/x/cc") && !matches("/aa/x/c") && !matches("/a/x/") && !matches("/a") && !matches("/"));
    }

    #[test]
    fn patterns_are_displayed_as_they_were_parsed() {
        for text in ["/", "/a/", "/a/{b}/c", "/{a}/{b_1}", "/a/%E3%83%9B"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_trailing_slash_is_an_empty_segment() {
        let matches = |pattern, path| Pattern::parse(pattern).unwrap().matches(&CanonicalPath::parse(path).unwrap());
        assert!(matches("/a/", "/a/") && matches("/", "/") && !matches("/a/", "/a") && !matches("/a", "/a/"));
        assert!(!matches("/{a}", "/") && !matches("/a/{b}", "/a/") && !matches("/a/{b}", "/a/b/"));
    }
}
