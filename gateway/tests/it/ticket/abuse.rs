//! Ten thousand tickets: each is accepted once, whatever their number and order.

use std::time::Instant;

use super::{ROUTES, bare, echo, of_user01, sign};
use crate::support::backend::Backend;
use crate::support::token::now;
use crate::support::{Gateway, admin};

const TICKETS: usize = 10_000;

/// How many requests are sent before their responses are read.
const AT_ONCE: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tickets_are_each_accepted_once() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    let began = Instant::now();
    // From a gateway whose clock is ahead, so that none expires during the test.
    let issued_at = (now() + 50) * 1000;
    let requests: Vec<_> = (0..TICKETS)
        .map(|id| bare("GET", &format!("/events?ticket={}", sign(&of_user01(id as u128, issued_at))), ""))
        .collect();
    let mut connection = gateway.connect().await;
    for expected in [200, 401] {
        for batch in requests.chunks(AT_ONCE) {
            connection.send(batch.concat()).await;
            for _ in batch {
                assert_eq!(connection.answer("GET").await.status, expected);
            }
        }
    }
    assert_eq!(service.seen().len(), TICKETS);
    println!("{TICKETS} tickets used and refused in {:?}", began.elapsed());
    assert_eq!(gateway.metric("gateway_token_refusals_total{reason=\"ticket_used\"}").await, Some(TICKETS as f64));
}
