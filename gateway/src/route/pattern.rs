//! Path patterns: literal segments, `{name}` for any one segment, `{name}.suffix` for one that ends with `.suffix`, and
//! `{*name}` at the end for the rest of the path.

use std::fmt;

use crate::framing::{CanonicalPath, NotCanonical};

/// The largest number of segments that a tail binds.
pub const MAX_TAIL_SEGMENTS: usize = 128;

/// The largest number of bytes that a tail binds.
pub const MAX_TAIL_BYTES: usize = 4096;

/// A path pattern.
///
/// `{name}` matches one segment that is not empty. `{name}.ics` matches one that ends with `.ics`, and binds what is
/// before it, which is not empty. `{*name}` is the last segment and matches the rest of the path
/// after its slash, which may be empty: `/a/{*rest}` matches `/a/`, `/a/b` and `/a/b/`, but not `/a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Any {
        name: String,
        /// The literal end of the segment; usually empty.
        suffix: String,
    },
    /// Always the last.
    Tail {
        name: String,
    },
}

impl Segment {
    /// The name, if it has one, and whether it is that of a tail.
    fn name(&self) -> Option<(&str, bool)> {
        match self {
            Self::Literal(_) => None,
            Self::Any { name, .. } => Some((name, false)),
            Self::Tail { name } => Some((name, true)),
        }
    }
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
    /// `{*name}` has a suffix.
    #[error("has a {{*name}} with a suffix")]
    TailSuffix,
    /// `{*name}` is not the last segment.
    #[error("has a {{*name}} that is not its last segment")]
    Tail,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] if no canonical path could ever match it.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut segments: Vec<Segment> = Vec::new();
        let rest = text.strip_prefix('/').ok_or(NotCanonical::Relative)?;
        for segment in rest.split('/') {
            if matches!(segments.last(), Some(Segment::Tail { .. })) {
                return Err(InvalidPattern::Tail);
            }
            let Some((name, suffix)) = segment.strip_prefix('{').and_then(|name| name.split_once('}')) else {
                segments.push(Segment::Literal(segment.to_owned()));
                continue;
            };
            let (name, is_tail) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            let is_taken = segments.iter().any(|segment| segment.name().is_some_and(|(taken, _)| taken == name));
            if name.is_empty() || is_taken || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(InvalidPattern::Name(name.to_owned()));
            }
            if is_tail && !suffix.is_empty() {
                return Err(InvalidPattern::TailSuffix);
            }
            let (name, suffix) = (name.to_owned(), suffix.to_owned());
            segments.push(if is_tail { Segment::Tail { name } } else { Segment::Any { name, suffix } });
        }
        let pattern = Self(segments);
        CanonicalPath::parse(&pattern.fill(&vec!["x"; pattern.names().count()]))?;
        Ok(pattern)
    }

    /// Whether `path` matches, whatever the length of its tail. A name never matches an empty segment.
    pub fn matches(&self, path: &CanonicalPath<'_>) -> bool {
        let mut rest = path.as_str();
        for expected in &self.0 {
            let Some(segments) = rest.strip_prefix('/') else { return false };
            let left = match expected {
                Segment::Literal(literal) => {
                    let left = segments.strip_prefix(literal.as_str());
                    left.filter(|left| left.is_empty() || left.starts_with('/'))
                }
                Segment::Any { suffix, .. } => {
                    let end = segments.find('/').unwrap_or(segments.len());
                    let bound = segments.get(..end).and_then(|segment| segment.strip_suffix(suffix.as_str()));
                    bound.filter(|bound| !bound.is_empty()).and_then(|_| segments.get(end..))
                }
                Segment::Tail { .. } => return true,
            };
            let Some(left) = left else { return false };
            rest = left;
        }
        rest.is_empty()
    }

    /// What the names bind of a `path` that matches.
    pub(super) fn bindings<'a>(&self, path: &CanonicalPath<'a>) -> Vec<&'a str> {
        let mut bindings = Vec::with_capacity(self.0.len());
        let mut rest = path.as_str();
        for expected in &self.0 {
            let segments = rest.strip_prefix('/').unwrap_or(rest);
            let end = match expected {
                Segment::Tail { .. } => segments.len(),
                Segment::Literal(_) | Segment::Any { .. } => segments.find('/').unwrap_or(segments.len()),
            };
            let (segment, left) = segments.split_at_checked(end).unwrap_or((segments, ""));
            match expected {
                Segment::Literal(_) => {}
                Segment::Any { suffix, .. } => bindings.push(segment.strip_suffix(suffix.as_str()).unwrap_or(segment)),
                Segment::Tail { .. } => bindings.push(segment),
            }
            rest = left;
        }
        bindings
    }

    /// What the tail binds of a `path` that matches; `None` without a tail.
    pub(super) fn tail<'a>(&self, path: &CanonicalPath<'a>) -> Option<&'a str> {
        let before = self.0.len().checked_sub(1).filter(|_| self.has_tail())?;
        let (slash, _) = path.as_str().match_indices('/').nth(before)?;
        path.as_str().get(slash + 1..)
    }

    /// Whether the tail of a `path` that matches has at most [`MAX_TAIL_SEGMENTS`] and [`MAX_TAIL_BYTES`]; true without
    /// a tail.
    pub(super) fn has_bounded_tail(&self, path: &CanonicalPath<'_>) -> bool {
        self.tail(path).is_none_or(|tail| {
            tail.len() <= MAX_TAIL_BYTES && tail.bytes().filter(|&byte| byte == b'/').count() < MAX_TAIL_SEGMENTS
        })
    }

    /// The path with its names replaced by `values`, in order.
    pub(super) fn fill(&self, values: &[&str]) -> String {
        let mut values = values.iter();
        self.0.iter().fold(String::new(), |mut path, segment| {
            path.push('/');
            match segment {
                Segment::Literal(literal) => path.push_str(literal),
                Segment::Any { suffix, .. } => {
                    path.push_str(values.next().copied().unwrap_or_default());
                    path.push_str(suffix);
                }
                Segment::Tail { .. } => path.push_str(values.next().copied().unwrap_or_default()),
            }
            path
        })
    }

    /// Whether both have the same names in the same order, of segments and of tails.
    pub(super) fn has_names_of(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    /// Whether it matches every path that `other` matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut others = other.0.iter();
        for own in &self.0 {
            let is_covered = match (own, others.next()) {
                // A tail matches whatever follows the slash, which each segment begins with.
                (Segment::Tail { .. }, Some(_)) => return true,
                (Segment::Any { suffix, .. }, Some(Segment::Literal(literal))) => {
                    literal.strip_suffix(suffix.as_str()).is_some_and(|bound| !bound.is_empty())
                }
                (Segment::Any { suffix, .. }, Some(Segment::Any { suffix: other, .. })) => other.ends_with(suffix),
                (Segment::Literal(own), Some(Segment::Literal(other))) => own == other,
                (Segment::Any { .. }, Some(Segment::Tail { .. }))
                | (Segment::Literal(_), Some(Segment::Any { .. } | Segment::Tail { .. }))
                | (_, None) => false,
            };
            if !is_covered {
                return false;
            }
        }
        others.next().is_none()
    }

    /// Whether `prefix`, a canonical path without a trailing slash, consists of its first segments, all literal.
    pub(super) fn begins_with(&self, prefix: &str) -> bool {
        let mut own = self.0.iter();
        prefix.split('/').skip(1).all(|segment| matches!(own.next(), Some(Segment::Literal(own)) if own == segment))
    }

    /// The literal beginnings of this pattern and of `other`, without a trailing slash, if all that follows is the same.
    pub(super) fn prefixes(&self, other: &Self) -> Option<(String, String)> {
        let literals = |pattern: &Self| {
            let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(literal) if !literal.is_empty());
            pattern.0.iter().take_while(is_literal).count()
        };
        let split = |pattern: &'_ Self| {
            let (before, after) = pattern.0.split_at_checked(literals(pattern))?;
            Some((Self(before.to_vec()).to_string(), after.to_vec()))
        };
        let ((own, rest), (others, other_rest)) = (split(self)?, split(other)?);
        (rest == other_rest && own != others).then_some((own, others))
    }

    /// The literal segments at the beginning that this pattern and `others` have in common; `/` if there are none.
    pub(super) fn common_prefix(&self, others: &[Self]) -> String {
        let is_common = |place: &usize| match self.0.get(*place) {
            Some(Segment::Literal(literal)) if !literal.is_empty() => {
                others.iter().all(|other| other.0.get(*place) == self.0.get(*place))
            }
            _ => false,
        };
        let common = (0..self.0.len()).take_while(is_common).count();
        let prefix = Self(self.0.iter().take(common).cloned().collect()).to_string();
        if prefix.is_empty() { "/".to_owned() } else { prefix }
    }

    /// The literal segment before the first name, with the slashes around it; `None` if there is none.
    pub(super) fn before_name(&self) -> Option<String> {
        let first = self.0.iter().position(|segment| segment.name().is_some())?;
        match self.0.get(first.checked_sub(1)?)? {
            Segment::Literal(literal) if !literal.is_empty() => Some(format!("/{literal}/")),
            _ => None,
        }
    }

    /// The names in order, each with whether it is that of a tail.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().filter_map(Segment::name)
    }

    pub(super) fn has_tail(&self) -> bool {
        matches!(self.0.last(), Some(Segment::Tail { .. }))
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }
}

/// The syntax of the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Any { name, suffix } => write!(f, "/{{{name}}}{suffix}"),
            Segment::Tail { name } => write!(f, "/{{*{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests;
