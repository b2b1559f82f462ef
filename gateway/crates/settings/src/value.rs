//! Conversion of setting values to their types.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::mismatch::{mismatch, mismatch_of};

/// Seconds, written as an integer or with a fraction.
pub(crate) struct Seconds(pub(crate) f64);

impl<'de> serde::Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected a number of seconds")]
        enum Number {
            Whole(u32),
            Fraction(f64),
        }
        Ok(Self(match Number::deserialize(deserializer)? {
            Number::Whole(whole) => f64::from(whole),
            Number::Fraction(fraction) => fraction,
        }))
    }
}

/// Why a value cannot be converted.
#[derive(Debug)]
pub(crate) struct NotConverted {
    value: Value,
    message: String,
}

impl NotConverted {
    /// The reason, of which the part about what is expected is `expected` if that is known better than from the type.
    pub(crate) fn reason(&self, expected: Option<&str>) -> String {
        expected.map_or_else(|| mismatch_of(&self.message, &self.value), |expected| mismatch(expected, &self.value))
    }
}

/// Converts `value`, and returns it too.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<(T, Value), NotConverted> {
    match value.clone().try_into::<T>() {
        Ok(read) => Ok((read, value)),
        Err(error) => Err(NotConverted { value, message: error.message().to_owned() }),
    }
}

/// Parses `text` as a string or TOML, and returns the parsed value too.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<(T, Value), NotConverted> {
    from_value(Value::String(text.to_owned())).or_else(|as_string| from_value(value_of(text).ok_or(as_string)?))
}

/// Parses `text` as a TOML value.
pub(crate) fn value_of(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}
