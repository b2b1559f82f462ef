//! JSON objects without duplicate names. Parsers differ in whether the first or the last occurrence counts,
//! which would make tokens ambiguous (RFC 8725, section 2.4).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

/// The members of a JSON object.
pub type Object = BTreeMap<String, Value>;

struct Unique(Object);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut members = Object::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Parses a JSON object.
///
/// # Errors
/// A static message why `text` is invalid, without any part of it.
pub fn object(text: &[u8]) -> Result<Object, &'static str> {
    match serde_json::from_slice::<Unique>(text) {
        Ok(Unique(members)) => Ok(members),
        Err(error) if error.is_data() && serde_json::from_slice::<Value>(text).is_ok_and(|value| value.is_object()) => {
            Err("a name stands twice")
        }
        Err(error) if error.is_data() => Err("not an object"),
        Err(_) => Err("not JSON"),
    }
}
