//! The OpenAPI document, compared with what the service responds, and the reference made of it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::http;
use crate::service::Service;

/// The documented operations: path with an example in place of each parameter, template, methods in capitals.
fn operations(document: &Value) -> Vec<(String, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    // The gateway's own begin with /auth.
    let own = paths.filter(|(template, _)| !template.starts_with("/auth"));
    let example =
        |template: &str| template.replace("{day}", "20201209").replace("{code}", "HL0503").replace(['{', '}'], "");
    own.map(|(template, item)| (example(template), template.as_str(), item)).collect()
}

#[tokio::test]
async fn the_document_has_the_methods_of_each_route() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let operations = operations(&document);
    assert!(operations.len() >= 10, "{operations:?}");
    for (path, template, item) in operations {
        let refused = http::send(&service.api, "PATCH", &path, &[], "").await;
        let allowed: BTreeSet<_> = refused.header("allow").split(", ").map(str::to_lowercase).collect();
        let documented: BTreeSet<_> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!((refused.status, allowed), (405, documented), "{template}");
    }
}

#[tokio::test]
async fn the_document_has_the_parameters_that_are_known() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let mut compared = 0;
    for (path, template, item) in operations(&document) {
        let parameters = item["get"]["parameters"].as_array().into_iter().flatten();
        let queried = parameters.filter(|parameter| parameter["in"] == "query");
        let documented: BTreeSet<_> = queried.map(|parameter| parameter["name"].clone().to_string()).collect();
        let refused = service.get(&format!("{path}?no-such-parameter=1")).await;
        // Other routes ignore unknown parameters.
        if refused.status == 400 {
            let problem = refused.json();
            let known = problem["known"].as_array().unwrap().iter();
            assert_eq!(known.map(Value::to_string).collect::<BTreeSet<_>>(), documented, "{template}");
            compared += 1;
        }
    }
    assert_eq!(compared, 4, "/holodules, /holodules/stream, /now, /streamers/{{code}}/holodules");
}

#[tokio::test]
async fn the_reference_has_each_operation_and_a_strict_policy() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let page = service.get("/docs/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for (_, template, _) in operations(&document) {
        assert!(page.body.contains(&format!("<code>{template}</code>")), "{template}");
    }
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; style-src 'self';"));
    assert!(!page.body.contains("<script") && !page.body.contains("style="));
    let style = service.get("/docs/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert_eq!(service.get("/docs/other").await.status, 404);
    let redirect = service.get("/docs").await;
    assert_eq!((redirect.status, redirect.header("location"), redirect.body.as_str()), (308, "docs/", ""));
}
