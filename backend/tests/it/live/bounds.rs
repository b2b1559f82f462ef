//! What is refused, and how many streams there may be.

use super::*;
use crate::service::{Setup, holodule};

#[tokio::test]
async fn a_wrong_query_is_a_problem_with_what_is_known() {
    let service = Service::start().await;
    let get = async |query: &str| service.get(&format!("{PATH}?{query}")).await;
    let known = json!(["from", "to", "code", "name", "group", "tag", "last_event_id"]);
    for name in ["q", "status", "sort", "limit", "cursor", "x"] {
        let reply = get(&format!("{name}=1")).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"), "{reply:?}");
        assert_eq!((&reply.json()["parameter"], &reply.json()["known"]), (&json!(name), &known));
    }
    for (query, parameter) in [
        ("from=2020-12-1", "from"),
        ("from=20201209&from=20201210", "from"),
        ("from=20201209&to=20201208", "to"),
        ("from=20201201&to=20210303", "to"),
        ("to=20201332", "to"),
        ("code=x", "code"),
        ("group=x", "group"),
    ] {
        let reply = get(query).await;
        assert_eq!((reply.status, &reply.json()["parameter"]), (400, &json!(parameter)), "{query} {reply:?}");
    }
    for query in ["name=%FF", "from=00000101&to=00000102&to=00000103", "to=00000101"] {
        assert_eq!(get(query).await.status, 400, "{query}");
    }
    let names: Vec<_> = (0..101).map(|number| format!("name={number}")).collect();
    assert_eq!(get(&names.join("&")).await.json()["parameter"], "name");
    for method in ["HEAD", "POST", "PUT"] {
        let reply = http::send(&service.api, method, PATH, &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET"), "{method}");
    }
    for good in ["from=20201201&to=20210302", "to=2020-12-09", "from=2020-12-09&name=a+b&name=%E7%8D%85&tag=x", ""] {
        let mut events = Events::open(&service.api, &format!("{PATH}?{good}"), None).await;
        events.expect("snapshot").await;
    }
}

#[tokio::test]
async fn a_stream_has_a_limited_number_of_entries() {
    let service = Service::start().await;
    service.holodules((0..5000).map(|number| holodule(number, "20201209 230000"))).await;
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    assert_eq!(ids(&events.expect("snapshot").await).len(), 5000);
    put(&service, &holodule(5000, "20201210 230000")).await;
    while let Some(event) = events.next().await {
        assert_eq!(event.name, "upsert", "{event:?}");
    }
    let reply = service.get(DECEMBER).await;
    assert_eq!(reply.status, 400);
    assert!(reply.json()["detail"].as_str().unwrap().contains("narrow the query"), "{reply:?}");
    let mut events = Events::open(&service.api, &format!("{DECEMBER}&code=HL0001"), None).await;
    assert_eq!(ids(&events.expect("snapshot").await).len(), 5);
}

#[tokio::test]
async fn there_is_a_limited_number_of_queries_with_subscribers() {
    let mut setup = Setup::default();
    setup.server.api.max_connections = 300;
    let service = Service::with(setup).await;
    let open = async |number: usize| {
        let mut events = Events::open(&service.api, &format!("{DECEMBER}&name={number}"), None).await;
        events.expect("snapshot").await;
        events
    };
    // A query without subscribers gives way to another one.
    for number in 0..260 {
        open(number).await;
    }
    assert_eq!(service.metric("backend_stream_queries").await, 256.0);
    let mut subscribers = Vec::new();
    for number in 0..256 {
        subscribers.push(open(number).await);
    }
    assert_eq!(service.metric("backend_stream_queries").await, 256.0);
    let reply = service.get(&format!("{DECEMBER}&name=x")).await;
    assert_eq!((reply.status, reply.header("content-type")), (503, "application/problem+json"));
    assert_eq!(reply.header("retry-after"), "30");
    // Another subscriber of the same query.
    open(1).await;
    // None of them was ended for another one.
    put(&service, &Holodule { name: Some("7".to_owned()), ..holodule(1, "20201209 230000") }).await;
    subscribers[7].expect("upsert").await;
    drop(subscribers);
    service.until("backend_stream_subscribers", 0.0).await;
    open(300).await;
}
