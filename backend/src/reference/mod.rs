//! The reference of the API for people: one document of HTML, made of the OpenAPI document. It has no scripts and loads
//! its style only.

mod schema;

use maud::{DOCTYPE, Markup, html};
use serde_json::{Map, Value};

use schema::shape;

/// The style of the page.
pub(crate) const STYLE: &str = include_str!("style.css");
/// The methods that are shown, in this order. HEAD is as GET.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page of an OpenAPI document.
pub(crate) fn page(document: &Value) -> String {
    let operations = operations(document);
    let info = &document["info"];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(&info["title"])) " API" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="style.css";
            }
            body {
                header {
                    h1 { (text(&info["title"])) " API " (text(&info["version"])) }
                    p { (prose(text(&info["description"]))) }
                    p { "The same for programs: " a href="../openapi.json" { "openapi.json" } " (OpenAPI 3.1)." }
                }
                nav aria-label="Operations" { ul { @for operation in &operations { (operation.entry()) } } }
                main {
                    @for operation in &operations { (operation.section(document)) }
                    h2 { "Schemas" }
                    @for (name, schema) in members(at(document, "/components/schemas")) {
                        section id=(format!("schema-{name}")) {
                            h3 { (name) }
                            p { (prose(text(&schema["description"]))) }
                            (fields(schema))
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    content: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for method in METHODS {
            if let Some(content) = item.get(method) {
                operations.push(Operation { method, path, content });
            }
        }
    }
    operations
}

impl Operation<'_> {
    fn id(&self) -> String {
        format!("{}-{}", self.method, self.path.trim_start_matches('/').replace(['/', '{', '}', '.'], "-"))
    }

    fn entry(&self) -> Markup {
        html! {
            li { a href=(format!("#{}", self.id())) { b { (self.method.to_uppercase()) } " " code { (self.path) } } }
        }
    }

    fn section(&self, document: &Value) -> Markup {
        let body = at(self.content, "/requestBody/content");
        html! {
            section id=(self.id()) {
                h2 { b { (self.method.to_uppercase()) } " " code { (self.path) } }
                p { strong { (text(&self.content["summary"])) ". " } (prose(text(&self.content["description"]))) }
                p { (credentials(self.content.get("security"))) }
                @if let Some(parameters) = self.content["parameters"].as_array() { (parameters_table(parameters)) }
                @if body.is_object() { h3 { "Request" } p { (bodies(body)) } }
                h3 { "Responses" }
                table {
                    thead { tr { th { "Status" } th { "Body" } th { "Meaning" } } }
                    tbody {
                        @for (status, response) in members(&self.content["responses"]) {
                            @let response = resolved(document, response);
                            tr {
                                td { (status) }
                                td { (bodies(&response["content"])) }
                                td { (prose(text(&response["description"]))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a request needs. Without requirements of its own, an operation has those of the document: a token.
fn credentials(security: Option<&Value>) -> &'static str {
    match security.and_then(Value::as_array) {
        Some(schemes) if schemes.iter().any(|scheme| scheme.as_object().is_some_and(Map::is_empty)) => {
            "Needs no token."
        }
        Some(schemes) if schemes.len() > 1 => "Needs a token or a ticket.",
        _ => "Needs a token.",
    }
}

fn parameters_table(parameters: &[Value]) -> Markup {
    html! {
        h3 { "Parameters" }
        table {
            thead { tr { th { "Name" } th { "In" } th { "Type" } th { "Meaning" } } }
            tbody {
                @for parameter in parameters {
                    tr {
                        td { code { (text(&parameter["name"])) } }
                        td { (text(&parameter["in"])) }
                        td { (shape(&parameter["schema"])) }
                        td { (prose(text(&parameter["description"]))) }
                    }
                }
            }
        }
    }
}

/// The media types of a body with their schemas.
fn bodies(content: &Value) -> Markup {
    html! {
        @for (position, (media_type, body)) in members(content).enumerate() {
            @if position > 0 { br; }
            (media_type) ": " (shape(&body["schema"]))
        }
    }
}

fn fields(schema: &Value) -> Markup {
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name));
    html! {
        table {
            thead { tr { th { "Member" } th { "Type" } th { "Meaning" } } }
            tbody {
                @for (name, member) in members(&schema["properties"]) {
                    tr {
                        td { code { (name) } @if !required(name) { " (optional)" } }
                        td { (shape(member)) }
                        td { (prose(text(&member["description"]))) }
                    }
                }
            }
        }
    }
}

/// The response that a reference names, or the response itself.
fn resolved<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    let referenced = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    referenced.and_then(|pointer| document.pointer(pointer)).unwrap_or(response)
}

/// The value at a JSON pointer (RFC 6901), or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A description, in which backticks enclose code.
fn prose(description: &str) -> Markup {
    html! {
        @for (position, part) in description.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_is_shown_and_texts_are_escaped() {
        let document = json!({
            "info": { "title": "<t>", "version": "1", "description": "a `b<` c" },
            "paths": {
                "/a/{id}": {
                    "get": { "summary": "<script>", "responses": { "404": { "$ref": "#/components/responses/Missing" } } },
                    "head": { "summary": "hidden", "responses": {} },
                    "delete": { "summary": "d", "security": [{}], "responses": {} },
                },
            },
            "components": { "responses": { "Missing": { "description": "none there" } }, "schemas": {} },
        });
        let page = page(&document);
        for part in [
            "<title>&lt;t&gt; API</title>",
            "a <code>b&lt;</code> c",
            "<section id=\"get-a--id-\">",
            "<section id=\"delete-a--id-\">",
            "&lt;script&gt;",
            "<td>404</td><td></td><td>none there</td>",
            "Needs a token.",
            "Needs no token.",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("hidden") && !page.contains("<script"), "{page}");
    }
}
