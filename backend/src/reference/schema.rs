//! The types of schemas, in words.

use maud::{Markup, html};
use serde_json::Value;

/// Levels of nested schemas that are shown.
const DEPTH: usize = 8;

/// The type of a schema, with its limits; schemas with a name are links.
pub(super) fn shape(schema: &Value) -> Markup {
    nested(schema, DEPTH)
}

fn nested(schema: &Value, depth: usize) -> Markup {
    let Some(depth) = depth.checked_sub(1) else { return html! {} };
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return html! { a href=(format!("#schema-{name}")) { (name) } };
    }
    let several = ["oneOf", "anyOf", "allOf"].into_iter().find_map(|name| schema[name].as_array());
    if let Some(several) = several {
        return html! { @for (at, one) in several.iter().enumerate() { @if at > 0 { " or " } (nested(one, depth)) } };
    }
    html! {
        (types(&schema["type"]))
        @if schema["items"].is_object() { " of " (nested(&schema["items"], depth)) }
        @if let Some(values) = schema["enum"].as_array() {
            ": " @for (at, value) in values.iter().enumerate() { @if at > 0 { ", " } code { (plain(value)) } }
        }
        @if let Some(format) = schema["format"].as_str() { " (" (format) ")" }
        @if let Some(pattern) = schema["pattern"].as_str() { " " code { (pattern) } }
        @for (name, words) in LIMITS { @if !schema[*name].is_null() { ", " (words) " " (plain(&schema[*name])) } }
    }
}

const LIMITS: &[(&str, &str)] = &[
    ("minimum", "from"),
    ("maximum", "to"),
    ("minLength", "minimum length"),
    ("maxLength", "maximum length"),
    ("maxItems", "values up to"),
];

fn types(value: &Value) -> String {
    match value {
        Value::Array(types) => types.iter().map(plain).collect::<Vec<_>>().join(" or "),
        value => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_described_in_words() {
        for (schema, expected) in [
            (json!({ "$ref": "#/components/schemas/A" }), "<a href=\"#schema-A\">A</a>"),
            (json!({ "type": ["string", "null"], "format": "date-time" }), "string or null (date-time)"),
            (
                json!({ "type": "array", "items": { "type": "string" }, "maxItems": 3 }),
                "array of string, values up to 3",
            ),
            (json!({ "type": "integer", "minimum": 1, "maximum": 9 }), "integer, from 1, to 9"),
            (json!({ "type": "string", "enum": ["a", "<"] }), "string: <code>a</code>, <code>&lt;</code>"),
            (json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/x/B" }] }), "null or <a href=\"#schema-B\">B</a>"),
        ] {
            assert_eq!(shape(&schema).into_string(), expected, "{schema}");
        }
    }
}
