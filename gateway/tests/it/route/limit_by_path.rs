//! `limit` by path of a public route: requests for one path count together, whatever their address, and only those that
//! fail count for the address.
//!
//! Buckets refill while a test sends requests: each test allows for less than 20 s of that.

use super::{Routed, cacheable};
use crate::support::backend::{Seen, Step, answer};
use crate::support::client::Connection;

const ROUTES: &str = "[{ name = 'feed', path = '/feeds/{key}.ics', methods = ['GET', 'HEAD'], public = true, \
       limit = { rate = 1, burst = 20, by = 'path' } }, \
     { name = 'open', path = '/open', methods = ['GET'], public = true }]";

/// A limit of the address that is lower than a test's number of requests.
const ADDRESS: [(&str, &str); 2] = [("LIMIT_ADDRESS_RATE", "1"), ("LIMIT_ADDRESS_BURST", "40")];

/// The service has the feeds whose keys begin with `known`.
fn feed(seen: &Seen) -> Vec<Step> {
    if seen.target.starts_with("/feeds/unknown") {
        return answer("404 Not Found", &[], "");
    }
    if seen.values("if-none-match") == ["\"a\""] {
        return vec![Step::Write(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec())];
    }
    cacheable("feed")
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// The statuses of `count` requests from 127.0.0.`host`, of which the nth is for `path(n)`.
async fn statuses(routed: &Routed, host: u8, count: usize, path: impl Fn(usize) -> String) -> Vec<u16> {
    let mut connection = Connection::open_from(host, routed.gateway.https).await;
    let mut statuses = Vec::new();
    for number in 0..count {
        statuses.push(connection.exchange(get(&path(number), "")).await.status);
    }
    statuses
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|&&other| other == status).count()
}

#[tokio::test]
async fn requests_for_one_path_count_together_from_any_address_and_with_any_query() {
    let routed = Routed::start(ROUTES, &[], feed).await;
    let first = statuses(&routed, 2, 15, |_| "/feeds/known.ics".to_owned()).await;
    assert_eq!(count(&first, 200), 15);
    let second = statuses(&routed, 3, 60, |number| format!("/feeds/known.ics?n={number}")).await;
    assert!((5..30).contains(&count(&second, 200)) && count(&second, 429) > 0, "{second:?}");
    let refused = Connection::open_from(4, routed.gateway.https).await.exchange(get("/feeds/known.ics", "")).await;
    if refused.status == 429 {
        assert_eq!(refused.value("ratelimit-policy"), r#""route_limit";q=20;w=20"#);
    }
    let other = statuses(&routed, 3, 15, |_| "/feeds/known2.ics".to_owned()).await;
    assert_eq!(count(&other, 200), 15, "another path has a limit of its own");
}

#[tokio::test]
async fn an_address_may_fetch_any_number_of_feeds() {
    let routed = Routed::start(ROUTES, &ADDRESS, feed).await;
    let many = statuses(&routed, 2, 300, |number| format!("/feeds/known{number}.ics")).await;
    assert_eq!(count(&many, 200), 300, "{many:?}");
    let mut connection = Connection::open_from(2, routed.gateway.https).await;
    for number in 0..100 {
        let request = get(&format!("/feeds/known{number}.ics"), "If-None-Match: \"a\"\r\n");
        assert_eq!(connection.exchange(request).await.status, 304);
    }
    // They did not use up the limit of the address for other routes.
    assert!(count(&statuses(&routed, 2, 45, |_| "/open".to_owned()).await, 200) >= 40);
}

/// Otherwise keys could be guessed at any rate.
#[tokio::test]
async fn unknown_keys_count_for_their_address() {
    let routed = Routed::start(ROUTES, &ADDRESS, feed).await;
    let guesses = statuses(&routed, 2, 200, |number| format!("/feeds/unknown{number}.ics")).await;
    assert!((40..100).contains(&count(&guesses, 404)), "{guesses:?}");
    assert_eq!(count(&guesses, 404) + count(&guesses, 429), 200);
    assert_eq!(routed.service.seen().len(), count(&guesses, 404), "the rest reaches no service");
    // Even a key that exists is then refused to this address, and served to others.
    let known = statuses(&routed, 2, 5, |_| "/feeds/known.ics".to_owned()).await;
    assert!(count(&known, 429) >= 1, "{known:?}");
    assert_eq!(statuses(&routed, 3, 1, |_| "/feeds/known.ics".to_owned()).await, [200]);
}

/// A client that leaves before the response is not known to have a key.
#[tokio::test]
async fn guesses_of_clients_that_leave_count_for_their_address() {
    let routed = Routed::start(ROUTES, &ADDRESS, |_| vec![Step::Hang]).await;
    for number in 0..60 {
        let mut connection = Connection::open_from(2, routed.gateway.https).await;
        connection.send(get(&format!("/feeds/known{number}.ics"), "")).await;
        let sent = async || routed.service.seen().len() > number;
        let limited = async || routed.gateway.metric(LIMITED).await > Some(0.0);
        crate::support::until("it is sent or refused", async || sent().await || limited().await).await;
        if limited().await {
            break;
        }
    }
    assert!(routed.service.seen().len() < 60, "no limit");
}

const LIMITED: &str = r#"gateway_rate_limited_total{limit="address"}"#;

#[tokio::test]
async fn other_public_routes_count_for_the_address_as_before() {
    let routed = Routed::start(ROUTES, &ADDRESS, feed).await;
    let open = statuses(&routed, 2, 100, |_| "/open".to_owned()).await;
    assert!((40..80).contains(&count(&open, 200)), "{open:?}");
    let post = |number| format!("/feeds/known{number}.ics");
    assert!(count(&statuses(&routed, 2, 20, post).await, 429) >= 1, "the limit of the address applies first");
}
