//! Scopes: names of what a principal may do (RFC 6749, section 3.3), and what a route requires of them. Roles are
//! scopes too. Pure.

use std::borrow::Borrow;
use std::cmp::Ordering;

use serde_json::Value;

/// The maximum size of all scopes of a principal, joined by spaces, in bytes. It bounds the memory of each account
/// status, the time of a comparison, and the header that a service receives.
pub const MAX_SCOPES_BYTES: usize = 2048;

/// Why names are no scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScopes {
    /// A name is empty or has another character. The name is not in the message, since it may come from a client.
    #[error("must be printable ASCII characters without space, \" and \\")]
    Name,
    /// Together they exceed [`MAX_SCOPES_BYTES`].
    #[error("must have at most {MAX_SCOPES_BYTES} bytes in total")]
    TooLong,
}

/// A set of scopes. Names are compared exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// The names in ascending order without duplicates, joined by spaces.
    text: Box<str>,
}

impl Scopes {
    /// The set of `names`, in any order.
    ///
    /// # Errors
    /// [`InvalidScopes`].
    pub fn new<T: Borrow<str>>(names: &[T]) -> Result<Self, InvalidScopes> {
        let mut names: Vec<&str> = names.iter().map(Borrow::borrow).collect();
        if !names.iter().all(|name| is_scope(name)) {
            return Err(InvalidScopes::Name);
        }
        names.sort_unstable();
        names.dedup();
        let text = names.join(" ").into_boxed_str();
        if text.len() > MAX_SCOPES_BYTES { Err(InvalidScopes::TooLong) } else { Ok(Self { text }) }
    }

    /// Parses names with one space between them; the empty text is the empty set.
    ///
    /// # Errors
    /// [`InvalidScopes`].
    pub fn parse(text: &str) -> Result<Self, InvalidScopes> {
        let names: Vec<_> = text.split(' ').filter(|_| !text.is_empty()).collect();
        Self::new(&names)
    }

    /// The set of the strings in a JSON array; `None` if it is anything else.
    pub fn from_json(array: &Value) -> Option<Self> {
        let names: Vec<_> = array.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        Self::new(&names).ok()
    }

    /// The names in ascending order, joined by spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no names.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The names in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split(' ').filter(|name| !name.is_empty())
    }
}

/// Whether `name` is a `scope-token` (RFC 6749, section 3.3).
pub fn is_scope(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'))
}

/// What a route requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// At least one of these scopes.
    Any(Scopes),
    /// Every one of these scopes.
    All(Scopes),
}

impl Requirement {
    /// Whether a principal with `held` meets it. One without names is never met.
    pub fn is_met_by(&self, held: &Scopes) -> bool {
        match self {
            Self::Any(wanted) => has_common(wanted.iter(), held.iter()),
            Self::All(wanted) => {
                // Both are sorted, so one pass over what is held is enough.
                let mut held = held.iter();
                !wanted.is_empty() && wanted.iter().all(|name| held.any(|own| own == name))
            }
        }
    }
}

/// Whether two ascending sequences have a common element.
fn has_common<'a>(mut ones: impl Iterator<Item = &'a str>, mut others: impl Iterator<Item = &'a str>) -> bool {
    let (mut one, mut other) = (ones.next(), others.next());
    while let (Some(a), Some(b)) = (one, other) {
        match a.cmp(b) {
            Ordering::Equal => return true,
            Ordering::Less => one = ones.next(),
            Ordering::Greater => other = others.next(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::parse(text).unwrap()
    }

    #[test]
    fn scopes_are_a_set_in_ascending_order() {
        let set = Scopes::new(&["b", "a", "B", "b"]).unwrap();
        assert_eq!((set.as_str(), set.iter().collect::<Vec<_>>()), ("B a b", vec!["B", "a", "b"]));
        assert_eq!((set, scopes("a b b B")), (scopes("B a b"), scopes("B a b")));
        for empty in [Scopes::default(), scopes(""), Scopes::new::<&str>(&[]).unwrap()] {
            assert!(empty.is_empty() && empty.iter().next().is_none());
        }
    }

    #[test]
    fn anything_else_than_scope_tokens_is_refused() {
        for text in [" ", "a ", " a", "a  b", "a\tb", "a\nb", "a\"b", "a\\b", "a\u{7f}", "é", "\0"] {
            assert_eq!(Scopes::parse(text), Err(InvalidScopes::Name), "{text:?}");
        }
        for name in ["", " ", "a b"] {
            assert_eq!(Scopes::new(&["a", name]), Err(InvalidScopes::Name), "{name:?}");
        }
        let every: String = ('!'..='~').filter(|one| !['"', '\\'].contains(one)).collect();
        assert_eq!(scopes(&every).as_str(), every);
    }

    #[test]
    fn the_total_size_is_bounded_after_duplicates_are_removed() {
        let (half, other) = ("a".repeat(1024), "b".repeat(1023));
        assert_eq!(Scopes::new(&[&*half, &*other, &*half]).unwrap().as_str().len(), MAX_SCOPES_BYTES);
        assert_eq!(Scopes::new(&[&*half, &*half.replace('a', "b")]), Err(InvalidScopes::TooLong));
    }

    #[test]
    fn only_arrays_of_strings_are_read_from_json() {
        assert_eq!(Scopes::from_json(&json!(["b", "a"])), Some(scopes("a b")));
        assert_eq!(Scopes::from_json(&json!([])), Some(Scopes::default()));
        for odd in [json!("a"), json!(null), json!({}), json!([1]), json!([["a"]]), json!(["a b"]), json!([""])] {
            assert_eq!(Scopes::from_json(&odd), None, "{odd}");
        }
    }

    #[test]
    fn any_needs_one_and_all_need_each() {
        for (wanted, held, any, all) in [
            ("b d", "", false, false),
            ("b d", "a c e", false, false),
            ("b d", "a b", true, false),
            ("b d", "d e", true, false),
            ("b d", "a b c d e", true, true),
            ("b", "B bb ab", false, false),
            ("", "a", false, false),
            ("", "", false, false),
        ] {
            let (wanted, held) = (scopes(wanted), scopes(held));
            let met =
                (Requirement::Any(wanted.clone()).is_met_by(&held), Requirement::All(wanted.clone()).is_met_by(&held));
            assert_eq!(met, (any, all), "{wanted:?} {held:?}");
        }
    }
}
