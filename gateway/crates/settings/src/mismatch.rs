//! Values that are not what their key expects, in the terms of the configuration instead of those of the parser.

use toml::Value;

use crate::echo::without_values;

/// A longer number may be a misplaced secret.
const MAX_SHOWN: u64 = 10_000_000_000;

/// The same for a number with a fraction.
const MAX_SHOWN_FRACTION: f64 = 1e10;

/// Why `value` is not accepted where `expected` is: `must be a whole number from 1 to 10, not a string`. Only numbers
/// are repeated.
pub fn mismatch(expected: &str, value: &Value) -> String {
    format!("must be {expected}, not {}", found(value))
}

fn found(value: &Value) -> String {
    match value {
        Value::String(text) if text.trim().parse::<f64>().is_ok() => "a number in quotes".to_owned(),
        Value::String(_) => "a string".to_owned(),
        Value::Integer(number) if number.unsigned_abs() < MAX_SHOWN => number.to_string(),
        Value::Float(number) if number.abs() < MAX_SHOWN_FRACTION => number.to_string(),
        Value::Integer(_) | Value::Float(_) => "this number".to_owned(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) => "a date or a time".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// The same if `expected` is known only from the `message` of the deserializer.
pub(crate) fn mismatch_of(message: &str, value: &Value) -> String {
    let message = without_values(message);
    let (problem, expected) =
        message.split_once(", expected ").unwrap_or(("", message.trim_start_matches("expected ")));
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" | "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "path string" => "a string",
        other => other,
    };
    // The message is about an item of the list.
    let is_of_item = value.is_array() && !problem.is_empty() && !problem.ends_with("sequence");
    if is_of_item { format!("must be a list in which each item is {expected}") } else { mismatch(expected, value) }
}

/// What is wrong with the syntax of a file, from the `message` of the parser. It contains nothing from the file.
pub(crate) fn syntax_error(message: &str) -> String {
    let message = without_values(message);
    let message = message.strip_suffix(", expected nothing").unwrap_or(&message);
    match message {
        "string values must be quoted, expected literal string" => "a value is missing, or is a text without quotes",
        "duplicate key" => "the key appears twice",
        _ if message.starts_with("invalid float") || message.starts_with("invalid integer") => "this is not a number",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use toml::Table;

    use super::*;

    fn reported<T: DeserializeOwned>(toml: &str) -> String {
        let value = format!("a = {toml}").parse::<Table>().unwrap().remove("a").unwrap();
        let Err(error) = value.clone().try_into::<T>() else { panic!("{toml} is accepted") };
        mismatch_of(error.message(), &value)
    }

    #[test]
    fn an_error_of_syntax_has_no_terms_of_the_parser() {
        for (toml, expected) in [
            ("a = ", "a value is missing, or is a text without quotes"),
            ("a = 1.2.3", "this is not a number"),
            ("a = 1\na = 2", "the key appears twice"),
            ("a = [1,", "unclosed array, expected `]`"),
        ] {
            assert_eq!(syntax_error(toml.parse::<Table>().unwrap_err().message()), expected, "{toml}");
        }
    }

    #[test]
    fn the_terms_are_those_of_the_configuration() {
        for (reason, expected) in [
            (reported::<u16>("'hush'"), "must be a whole number from 0 to 65535, not a string"),
            (reported::<u16>("'300'"), "must be a whole number from 0 to 65535, not a number in quotes"),
            (reported::<u16>("70000"), "must be a whole number from 0 to 65535, not 70000"),
            (reported::<u64>("-5"), "must be a whole number, not -5"),
            (reported::<u64>("2.5"), "must be a whole number, not 2.5"),
            (reported::<f64>("true"), "must be a number, not true"),
            (reported::<bool>("1"), "must be true or false, not 1"),
            (reported::<bool>("-4929123412341234"), "must be true or false, not this number"),
            (reported::<String>("['hush']"), "must be a string, not a list"),
            (reported::<std::path::PathBuf>("5"), "must be a string, not 5"),
            (reported::<Vec<String>>("'hush'"), "must be a list, not a string"),
            (reported::<Vec<String>>("['a', 5]"), "must be a list in which each item is a string"),
            (reported::<Table>("[]"), "must be a table, not a list"),
        ] {
            assert_eq!(reason, expected);
        }
    }
}
