//! Examples of parameters and of the bodies of responses.
//!
//! `examples.json` has those of successful responses by operation id; they are responses of the stack with the sample,
//! with which `ops/checks/test_contract.py` compares them. Those of errors are made from the status.

use std::sync::LazyLock;

use http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Response};

static EXAMPLES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// Adds the examples of an operation.
pub(super) fn add(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(known) = parameter else { continue };
        let example = example_of(&id, known);
        *parameter = ParameterBuilder::from(known.clone()).example(example).build().into();
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with('2') {
            if let Some(RefOr::T(content)) = response.content.values_mut().next() {
                content.example = EXAMPLES.get("responses").and_then(|responses| responses.get(&id)).cloned();
            }
        } else {
            add_to_error(response, status);
        }
    }
}

/// The example of a parameter: for this operation, or else for all parameters of this name.
fn example_of(operation: &str, parameter: &Parameter) -> Option<Value> {
    let parameters = EXAMPLES.get("parameters")?;
    let name = parameter.name.as_str();
    let value = parameters.get(format!("{operation}.{name}")).or_else(|| parameters.get(name))?.clone();
    let is_array = matches!(parameter.schema, Some(RefOr::T(Schema::Array(_))));
    Some(if is_array { json!([value]) } else { value })
}

/// Adds examples to an error, unless it has one of its own.
pub(super) fn add_to_error(response: &mut Response, status: &str) {
    let Some(code) = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok()) else { return };
    let phrase = code.canonical_reason().unwrap_or_default();
    let description = response.description.trim_end_matches('.').to_owned();
    for (media_type, content) in &mut response.content {
        let RefOr::T(content) = content else { continue };
        if content.example.is_some() {
            continue;
        }
        let schema = match &content.schema {
            Some(RefOr::Ref(reference)) => reference.ref_location.rsplit('/').next().unwrap_or_default(),
            _ => continue,
        };
        content.example = Some(match schema {
            _ if media_type == "application/problem+json" => {
                json!({ "type": "about:blank", "title": phrase, "status": code.as_u16(), "detail": description })
            }
            "Described" if code == StatusCode::UNAUTHORIZED => {
                json!({ "status_code": 401, "error": "Invalid token", "description": "Signature has expired" })
            }
            "Described" | "Refusal" => {
                json!({ "status_code": code.as_u16(), "error": phrase, "description": description })
            }
            // The original's spelling.
            _ if code == StatusCode::NOT_FOUND => json!({ "error": "Not found" }),
            _ => json!({ "error": phrase }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[test]
    fn every_parameter_and_every_body_has_an_example() {
        let document = document();
        let mut count = (0, 0);
        let mut without = Vec::new();
        let bodies = |response: &Value| -> Vec<bool> {
            let content = response["content"].as_object().into_iter().flatten();
            content.map(|(_, content)| !content["example"].is_null()).collect()
        };
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    count.0 += 1;
                    if parameter["example"].is_null() {
                        without.push(format!("{method} {path} {}", parameter["name"]));
                    }
                }
                for (status, response) in operation["responses"].as_object().unwrap() {
                    for has_example in bodies(response) {
                        count.1 += 1;
                        if !has_example {
                            without.push(format!("{method} {path} {status}"));
                        }
                    }
                }
            }
        }
        for (name, response) in document["components"]["responses"].as_object().unwrap() {
            assert!(bodies(response).into_iter().all(|has_example| has_example), "{name}");
        }
        assert!(count.0 > 30 && count.1 > 50, "{count:?}");
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn examples_are_of_operations_and_parameters_that_exist() {
        let document = document().to_string();
        for (id, _) in EXAMPLES["responses"].as_object().unwrap() {
            assert!(document.contains(&format!("\"operationId\":\"{id}\"")), "{id}");
        }
        for (name, _) in EXAMPLES["parameters"].as_object().unwrap() {
            let name = name.rsplit('.').next().unwrap();
            assert!(document.contains(&format!("\"name\":\"{name}\"")), "{name}");
        }
    }
}
