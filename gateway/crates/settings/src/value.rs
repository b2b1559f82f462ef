//! Conversion of setting values to their types.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::echo::without_values;

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

/// Parses `text` as a string or TOML, and returns the parsed value too.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<(T, Value), String> {
    let as_string = Value::String(text.to_owned());
    let error = match as_string.clone().try_into::<T>() {
        Ok(value) => return Ok((value, as_string)),
        Err(error) => without_values(error.message()),
    };
    let value = value_of(text).ok_or(error)?;
    value.clone().try_into::<T>().map(|read| (read, value)).map_err(|error| without_values(error.message()))
}

/// Parses `text` as a TOML value.
pub(crate) fn value_of(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}
