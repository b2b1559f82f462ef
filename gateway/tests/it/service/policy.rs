//! Which address of a service receives a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{route, service, start};
use crate::support::backend::{Backend, Step, answer};
use crate::support::client::Answer;
use crate::support::{Gateway, answer_of, get, token, until};

/// Services whose responses are their names.
async fn named<const COUNT: usize>() -> [Backend; COUNT] {
    let mut backends = Vec::new();
    for number in 0..COUNT {
        backends.push(Backend::start(move |_| answer_of(&number.to_string())).await);
    }
    backends.try_into().ok().unwrap()
}

/// A gateway with one service at these addresses, each with a weight.
fn app(addresses: &[(&Backend, u32)], fields: &str) -> Gateway {
    let addresses: Vec<_> = (addresses.iter())
        .map(|(backend, weight)| format!("{{ address = '{}', weight = {weight} }}", backend.address))
        .collect();
    let service = format!("[{{ name = 'app', addresses = [{}], max_connections = 32{fields} }}]", addresses.join(", "));
    start(&service, &format!("[{}]", route("app")), &[])
}

/// How many of these requests each address answered.
async fn counts(gateway: &Gateway, paths: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for path in paths {
        let answer = gateway.get(&path).await;
        assert_eq!(answer.status, 200);
        *counts.entry(answer.body).or_default() += 1;
    }
    counts
}

fn expected<const COUNT: usize>(counts: [(&str, usize); COUNT]) -> BTreeMap<String, usize> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[tokio::test]
async fn addresses_take_turns_by_their_weights() {
    let backends = named::<3>().await;
    let [a, b, c] = &backends;
    let paths = || (0..40).map(|_| "/app/x".to_owned());
    // Without a policy too.
    let gateway = app(&[(a, 1), (b, 1)], "");
    assert_eq!(counts(&gateway, paths()).await, expected([("0", 20), ("1", 20)]));
    let gateway = app(&[(a, 3), (b, 1), (c, 0)], ", policy = 'round_robin'");
    assert_eq!(counts(&gateway, paths()).await, expected([("0", 30), ("1", 10)]));
}

#[tokio::test]
async fn a_busy_address_gets_fewer_requests() {
    let permits = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&permits);
    let busy = Backend::start(move |_| [vec![Step::WaitFor(Arc::clone(&waiting))], answer_of("busy")].concat()).await;
    let idle = Backend::start(|_| answer_of("idle")).await;
    let gateway = app(&[(&busy, 1), (&idle, 1)], ", policy = 'least_connections'");
    let mut held = gateway.connect().await;
    held.send(get("/app/x", "")).await;
    until("one request is held", async || busy.seen().len() == 1).await;
    let paths = || (0..10).map(|_| "/app/x".to_owned());
    assert_eq!(counts(&gateway, paths()).await, expected([("idle", 10)]));
    permits.add_permits(100);
    assert_eq!(held.answer("GET").await.body, "busy");
    assert_eq!(counts(&gateway, paths()).await, expected([("busy", 5), ("idle", 5)]));
}

#[tokio::test]
async fn a_path_or_an_identity_always_has_the_same_address() {
    let backends = named::<3>().await;
    let [a, b, c] = &backends;
    let gateway = app(&[(a, 1), (b, 1), (c, 1)], ", policy = 'consistent_hash', hash_by = 'path'");
    let mut all = BTreeMap::new();
    for number in 0..20 {
        let path = format!("/app/{number}");
        let counts = counts(&gateway, vec![path; 3]).await;
        assert_eq!(counts.len(), 1, "{counts:?}");
        all.extend(counts);
    }
    assert_eq!(all.len(), 3);
    let gateway = app(&[(a, 1), (b, 1), (c, 1)], ", policy = 'consistent_hash', hash_by = 'identity'");
    assert_eq!(counts(&gateway, (0..20).map(|number| format!("/app/{number}"))).await.len(), 1);
    let mut all = BTreeMap::new();
    for number in 0..20 {
        let token = token::token(&format!("user{number}"));
        let request = format!("GET /app/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n");
        all.insert(gateway.exchange(request).await.body, ());
    }
    assert_eq!(all.len(), 3);
}

fn cookie_of(answer: &Answer) -> String {
    answer.value("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_with_the_cookie_stays_at_its_address() {
    let backends = named::<2>().await;
    let [a, b] = &backends;
    let gateway = app(&[(a, 1), (b, 1)], ", policy = 'sticky', cookie = 'at'");
    let first = gateway.get("/app/x").await;
    let set = first.value("set-cookie");
    assert!(set.starts_with("at=") && set.ends_with("; Path=/app; Secure; HttpOnly; SameSite=Lax"), "{set}");
    assert!(!set.contains("127.0.0.1") && !set.contains(a.address.rsplit(':').next().unwrap()), "{set}");
    let cookie = cookie_of(&first);
    for _ in 0..5 {
        let answer = gateway.exchange(get("/app/x", &format!("Cookie: a=1; {cookie}; b=2\r\n"))).await;
        assert_eq!((answer.values("set-cookie").len(), &answer.body), (0, &first.body));
    }
    // The service sees only the others.
    let seen: Vec<_> = [a.seen(), b.seen()].concat();
    let cookies: Vec<_> = seen.iter().map(|seen| seen.values("cookie")).collect();
    assert_eq!(
        cookies,
        [vec![], vec!["a=1; b=2"], vec!["a=1; b=2"], vec!["a=1; b=2"], vec!["a=1; b=2"], vec!["a=1; b=2"]]
    );
    // An unknown value is replaced.
    let answer = gateway.exchange(get("/app/x", "Cookie: at=forged\r\n")).await;
    assert_eq!((answer.status, answer.value("set-cookie").starts_with("at=")), (200, true));
}

#[tokio::test]
async fn a_client_of_a_dead_address_gets_another_and_a_new_cookie() {
    let [mut a, mut b] = named::<2>().await;
    let gateway = app(&[(&a, 1), (&b, 1)], ", policy = 'sticky'");
    let first = gateway.get("/app/x").await;
    let (dead, other) = if first.body == "0" { (&mut a, "1") } else { (&mut b, "0") };
    dead.stop().await;
    let answer = gateway.exchange(get("/app/x", &format!("Cookie: {}\r\n", cookie_of(&first)))).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, other));
    let cookie = cookie_of(&answer);
    assert!(cookie.starts_with("gateway-app=") && cookie != cookie_of(&first), "{cookie}");
}

#[tokio::test]
async fn a_drained_address_keeps_its_clients_and_gets_no_new_ones() {
    let backends = named::<2>().await;
    let [a, b] = &backends;
    let before = app(&[(a, 1), (b, 1)], ", policy = 'sticky'");
    let mut cookies = BTreeMap::new();
    while cookies.len() < 2 {
        let answer = before.get("/app/x").await;
        cookies.insert(answer.body.clone(), cookie_of(&answer));
    }
    drop(before);
    // Another gateway, or the same after a restart.
    let gateway = app(&[(a, 0), (b, 1)], ", policy = 'sticky'");
    assert_eq!(counts(&gateway, (0..4).map(|_| "/app/x".to_owned())).await, expected([("1", 4)]));
    for (name, cookie) in cookies {
        let answer = gateway.exchange(get("/app/x", &format!("Cookie: {cookie}\r\n"))).await;
        assert_eq!(answer.body, name);
    }
}

#[tokio::test]
async fn the_cookie_is_never_stored_and_not_set_where_other_caches_may_store_it() {
    let script = |seen: &crate::support::backend::Seen| {
        let field = match seen.target.rsplit('/').next() {
            Some("cached") => ("Cache-Control", "public, s-maxage=600"),
            Some("expires") => ("Expires", "Fri, 31 Dec 2100 23:59:59 GMT"),
            _ => ("Cache-Control", "private"),
        };
        answer("200 OK", &[field], &seen.values("cookie").join(""))
    };
    let (a, b) = (Backend::start(script).await, Backend::start(script).await);
    let services = service("app", &[&a.address, &b.address], ", policy = 'sticky', cookie = 'at'");
    let routes = "[{ path = '/shared/cached', methods = ['GET'], shared = true, vary = ['cookie'], service = 'app' }, \
         { path = '/public/{name}', methods = ['GET'], public = true, cache = false, shared = true, service = 'app' }]";
    let gateway = start(&format!("[{services}]"), routes, &[("CACHE_MAX_BYTES", "67108864")]);
    for expected in ["miss", "hit"] {
        let answer = gateway.exchange(get("/shared/cached", "Cookie: a=1; at=forged\r\n")).await;
        assert_eq!((answer.value("x-cache"), answer.body.as_str()), (expected, "a=1"));
        assert!(answer.values("set-cookie").is_empty());
    }
    for path in ["/public/cached", "/public/expires"] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status, answer.values("set-cookie").len()), (200, 0), "{path}");
    }
    assert!(gateway.get("/public/own").await.value("set-cookie").starts_with("at="));
}
