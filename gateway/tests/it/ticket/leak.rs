//! Property: no part of a ticket is in a log line, a metric or a forwarded request, wherever it is in the query and
//! whatever the response.

use super::{ROUTES, bare, echo, ticket};
use crate::support::backend::Backend;
use crate::support::random::{Random, cases, seed};
use crate::support::token::token;
use crate::support::{Gateway, admin, until};

/// A parameter with or without a ticket.
fn parameter(random: &mut Random, ticket: &str) -> String {
    match random.below(8) {
        0 => "since=1".to_owned(),
        1 => "x".to_owned(),
        2 => String::new(),
        3 => "y=%20%2F".to_owned(),
        4 => format!("%74icket={ticket}"),
        5 => format!("t%69cke%74={ticket}"),
        _ => format!("ticket={ticket}"),
    }
}

#[tokio::test]
async fn a_ticket_is_neither_logged_nor_forwarded() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let settings =
        [("ROUTE", ROUTES), ("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0"), ("CACHE_MAX_BYTES", "67108864")];
    let (gateway, log) = Gateway::start_logged(&service, &admin, &settings);
    let (first, mut sent) = (seed(), 0);
    let mut secrets = Vec::new();
    let mut statuses = std::collections::BTreeMap::new();
    for number in 0..cases(150) {
        let seed = first.wrapping_add(number);
        let mut random = Random::new(seed);
        let path = random.pick(&["/events", "/rooms/a/b", "/rooms/a%2Fb", "/roles"]);
        let ticket = ticket(&gateway, &token("user01"), path).await;
        let count = 1 + random.below(4);
        let mut query: Vec<_> = (0..count).map(|_| parameter(&mut random, &ticket)).collect();
        query.insert(random.below(count), format!("ticket={ticket}"));
        let method = random.pick(&["GET", "GET", "GET", "POST", "HEAD"]);
        let authorization =
            if random.one_in(6) { format!("Authorization: JWT {}\r\n", token("user01")) } else { String::new() };
        let used = if random.one_in(6) { "/roles" } else { path };
        let request = bare(method, &format!("{used}?{}", query.join("&")), &authorization);
        // A POST with a token is forwarded as it is: it is no request with a ticket.
        if method == "POST" && !authorization.is_empty() {
            continue;
        }
        for _ in 0..=random.below(2) {
            let mut connection = gateway.connect().await;
            connection.send(&request).await;
            *statuses.entry(connection.answer(method).await.status).or_insert(0) += 1;
            sent += 1;
        }
        secrets.push((seed, ticket));
    }
    println!("{statuses:?}");
    assert!(statuses.contains_key(&200) && statuses.contains_key(&401) && statuses.contains_key(&400), "{statuses:?}");
    until("the lines are written", async || log.lines().len() >= sent + secrets.len()).await;
    let lines: String = log.lines().iter().map(ToString::to_string).collect();
    let seen = format!("{:?}", service.seen());
    let (_, metrics) = gateway.ops("/metrics").await;
    assert!(!seen.contains("icket"), "the parameter was forwarded");
    for (seed, ticket) in &secrets {
        for part in ticket.split('.').skip(1) {
            for (place, text) in [("the log", &lines), ("a forwarded request", &seen), ("the metrics", &metrics)] {
                assert!(!text.contains(&part[part.len() - 20..]), "seed {seed}: in {place}");
            }
        }
    }
}
