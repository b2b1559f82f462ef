//! The state of services on the ops listener.

use serde_json::{Value, json};

use super::{route, service, start};
use crate::support::backend::{Backend, answer};
use crate::support::{Gateway, answer_of, until};

async fn readiness(gateway: &Gateway) -> (u16, Value) {
    let (status, body) = gateway.ops("/readyz").await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn only_a_required_service_counts_for_readiness() {
    let mut required = Backend::start(|_| answer_of("a")).await;
    let address = required.address.clone();
    required.stop().await;
    let services =
        [service("required", &[&address], ", required = true"), service("other", &["127.0.0.1:1"], "")].join(", ");
    let routes = format!("[{}, {}]", route("required"), route("other"));
    let gateway = start(&format!("[{services}]"), &routes, &[]);
    let page = |ready: bool, state: &str| {
        json!({"ready": ready, "draining": false, "revocations": "off", "upstreams": {}, "services": {
            "required": {"required": true, "addresses": {address.clone(): state}},
            "other": {"required": false, "addresses": {"127.0.0.1:1": "down"}},
        }})
    };
    assert_eq!(readiness(&gateway).await, (503, page(false, "down")));
    let mut required = Backend::start_at(address.parse().unwrap(), |_| answer_of("a")).await;
    gateway.ready().await;
    assert_eq!(readiness(&gateway).await, (200, page(true, "up")));
    let up = |name: &str| format!("gateway_upstream_up{{upstream=\"{name}\"}}");
    assert_eq!(gateway.metric(&up("required")).await, Some(1.0));
    assert_eq!(gateway.metric(&up("other")).await, Some(0.0));
    assert_eq!(gateway.metric(&up("api")).await, None);
    let series = format!("gateway_service_address_up{{address=\"{address}\",service=\"required\"}}");
    assert_eq!(gateway.metric(&series).await, Some(1.0));
    // A later failure is reported but does not make the gateway unready.
    required.stop().await;
    until("the failure is reported", async || gateway.metric(&series).await == Some(0.0)).await;
    assert_eq!(readiness(&gateway).await, (200, page(true, "down")));
}

#[tokio::test]
async fn a_health_path_must_succeed_on_each_address() {
    let script = |status: &'static str| {
        move |seen: &crate::support::backend::Seen| match seen.target.as_str() {
            "/live" => answer(status, &[], ""),
            _ => answer_of("a"),
        }
    };
    let good = Backend::start(script("204 No Content")).await;
    let bad = Backend::start(script("500 Internal Server Error")).await;
    let services = service("app", &[&bad.address, &good.address], ", health_path = '/live', health_interval = 0.1");
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    let addresses = json!({good.address.clone(): "up", bad.address.clone(): "down"});
    until("both are checked", async || readiness(&gateway).await.1["services"]["app"]["addresses"] == addresses).await;
    assert_eq!(gateway.metric("gateway_upstream_up{upstream=\"app\"}").await, Some(1.0));
}

#[tokio::test]
async fn names_are_resolved_in_the_background_and_one_without_an_address_is_down() {
    let backend = Backend::start(|_| answer_of("a")).await;
    let name = backend.address.replace("127.0.0.1", "localhost");
    let services = service("app", &["name.invalid:1", &name], ", health_interval = 0.1");
    let gateway = start(&format!("[{services}]"), &format!("[{}]", route("app")), &[]);
    let addresses = json!({name.clone(): "up", "name.invalid:1": "down"});
    until("both are checked", async || readiness(&gateway).await.1["services"]["app"]["addresses"] == addresses).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/app/x").await.body, "a");
    }
}
