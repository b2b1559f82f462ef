//! Services are added, changed and removed by a reload. Those that remain keep their connections and their health.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::{Gateway, answer_of, get, until};

/// A service with these addresses and further fields.
fn service(name: &str, addresses: &[&str], fields: &str) -> String {
    let addresses: Vec<_> = addresses.iter().map(|address| format!("'{address}'")).collect();
    format!("{{ name = '{name}', addresses = [{}], max_connections = 32{fields} }}", addresses.join(", "))
}

/// A route to the service of its name.
fn route(name: &str) -> String {
    format!("{{ name = '{name}', path = '/{name}/{{*rest}}', methods = ['GET'], service = '{name}' }}")
}

fn list(tables: &[String]) -> String {
    format!("[{}]", tables.join(", "))
}

async fn states(gateway: &Gateway) -> Value {
    let (_, body) = gateway.ops("/readyz").await;
    serde_json::from_str::<Value>(&body).unwrap()["services"].clone()
}

fn start(services: &str, routes: &str) -> Gateway {
    Gateway::start_from(&[("LOGIN_ENABLED", "false"), ("SERVICE", services), ("ROUTE", routes)])
}

#[tokio::test]
async fn services_are_added_and_removed() {
    let (one, two) = (Backend::start(|_| answer_of("one")).await, Backend::start(|_| answer_of("two")).await);
    let one_table = service("one", &[&one.address], "");
    let gateway = start(&list(std::slice::from_ref(&one_table)), &list(&[route("one")]));
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/one/x", "")).await.body, "one");
    // A name is resolved before the reload takes effect.
    let name = two.address.replace("127.0.0.1", "localhost");
    let two_table = service("two", &[&name], ", health_interval = 0.1");
    let changed = [("SERVICE", list(&[two_table.clone(), one_table])), ("ROUTE", list(&[route("two"), route("one")]))];
    let changed: Vec<_> = changed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    gateway.reload(&changed).unwrap();
    assert_eq!(connection.exchange(get("/two/x", "")).await.body, "two");
    assert_eq!(connection.exchange(get("/one/x", "")).await.body, "one");
    let one_connections: Vec<_> = one.seen().iter().map(|seen| (seen.connection, seen.place)).collect();
    assert_eq!(one_connections[1], (one_connections[0].0, 1), "the connection is reused");
    until("it is checked", async || states(&gateway).await["two"]["addresses"] == json!({&name: "up"})).await;
    let up = |name: &str| format!("gateway_upstream_up{{upstream=\"{name}\"}}");
    until("both are up", async || gateway.metric(&up("one")).await == Some(1.0)).await;
    gateway.reload(&[("SERVICE", &list(&[two_table])), ("ROUTE", &list(&[route("two")]))]).unwrap();
    assert_eq!(connection.exchange(get("/one/x", "")).await.status, 404);
    assert_eq!(connection.exchange(get("/two/x", "")).await.body, "two");
    assert!(states(&gateway).await["one"].is_null());
    until("its series end", async || gateway.metric(&up("one")).await.is_none()).await;
}

#[tokio::test]
async fn an_address_keeps_its_health_and_figures_when_others_change() {
    let good = Backend::start(|_| answer_of("good")).await;
    let bad = Backend::start(|seen: &Seen| match seen.target.as_str() {
        "/live" => answer("500 Internal Server Error", &[], ""),
        _ => answer_of("bad"),
    });
    let bad = bad.await;
    let checks = ", health_path = '/live', health_interval = 60";
    let gateway = start(&list(&[service("app", &[&bad.address, &good.address], checks)]), &list(&[route("app")]));
    let expected = json!({&bad.address: "down", &good.address: "up"});
    until("both are checked", async || states(&gateway).await["app"]["addresses"] == expected).await;
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/app/x", "")).await.body, "good");
    // The next check of an address that is known would be in a minute.
    let more = Backend::start(|_| answer_of("more")).await;
    let table = service("app", &[&more.address, &bad.address, &good.address], checks);
    gateway.reload(&[("SERVICE", &list(&[table]))]).unwrap();
    let mut bodies = Vec::new();
    for _ in 0..6 {
        bodies.push(connection.exchange(get("/app/x", "")).await.body);
    }
    bodies.sort();
    assert_eq!(bodies, ["good", "good", "good", "more", "more", "more"]);
    let requests = format!("gateway_service_requests_total{{address=\"{}\",service=\"app\"}}", good.address);
    assert_eq!(gateway.metric(&requests).await, Some(4.0));
}

#[tokio::test]
async fn only_a_change_of_the_checks_keeps_the_connections_of_a_service() {
    let app = Backend::start(|_| answer_of("app")).await;
    let gateway = start(&list(&[service("app", &[&app.address], "")]), &list(&[route("app")]));
    let mut connection = gateway.connect().await;
    let mut on_connection = async || {
        assert_eq!(connection.exchange(get("/app/x", "")).await.body, "app");
        app.seen().iter().rfind(|seen| seen.target == "/x" || seen.target == "/app/x").unwrap().connection
    };
    let first = on_connection().await;
    let reload = |fields: &str| gateway.reload(&[("SERVICE", &list(&[service("app", &[&app.address], fields)]))]);
    reload(", health_interval = 0.5, required = true").unwrap();
    assert_eq!(on_connection().await, first);
    reload(", health_interval = 0.5, read_timeout = 3").unwrap();
    assert_ne!(on_connection().await, first);
}

#[tokio::test]
async fn a_request_in_flight_ends_at_the_service_that_was_removed() {
    let released = Arc::new(Semaphore::new(0));
    let step = Step::WaitFor(Arc::clone(&released));
    let old = Backend::start(move |seen: &Seen| match seen.target.ends_with("slow") {
        true => [vec![step.clone()], answer_of("old")].concat(),
        false => answer_of("old"),
    });
    let (old, new) = (old.await, Backend::start(|_| answer_of("new")).await);
    let gateway = start(&list(&[service("app", &[&old.address], "")]), &list(&[route("app")]));
    let mut slow = gateway.connect().await;
    slow.send(get("/app/slow", "")).await;
    until("the request has arrived", async || old.seen().iter().any(|seen| seen.target.ends_with("slow"))).await;
    gateway.reload(&[("SERVICE", &list(&[service("app", &[&new.address], "")]))]).unwrap();
    assert_eq!(gateway.get("/app/x").await.body, "new");
    released.add_permits(1);
    assert_eq!(slow.answer("GET").await.body, "old");
    assert_eq!(slow.exchange(get("/app/slow", "")).await.body, "new", "the next request of the connection");
}

#[tokio::test]
async fn the_api_listener_is_probed_once_a_route_needs_it() {
    let (app, api) = (Backend::start(|_| answer_of("app")).await, Backend::start(|_| answer_of("api")).await);
    let services = list(&[service("app", &[&app.address], "")]);
    let name = api.address.replace("127.0.0.1", "localhost");
    let routes = list(&[route("app")]);
    let settings = [("LOGIN_ENABLED", "false"), ("SERVICE", &services), ("ROUTE", &routes), ("UPSTREAM_API", &name)];
    let gateway = Gateway::start_from(&settings);
    gateway.ready().await;
    let up = "gateway_upstream_up{upstream=\"api\"}";
    assert_eq!(gateway.metric(up).await, None);
    let more = list(&[route("app"), "{ name = 'rest', path = '/{*rest}', methods = ['GET'] }".to_owned()]);
    gateway.reload(&[("ROUTE", &more)]).unwrap();
    until("the api listener is up", async || gateway.metric(up).await == Some(1.0)).await;
    assert_eq!(gateway.get("/x").await.body, "api");
    gateway.reload(&[("ROUTE", &list(&[route("app")]))]).unwrap();
    until("it is probed no longer", async || gateway.metric(up).await.is_none()).await;
}
