//! Pages of lists.

use serde_json::Value;

use super::{names, on_both_engines, stream};
use crate::service::Service;

const PATH: &str = "/holodules?from=20201209&to=20201210";

/// All pages from `path` on, with what `between` does after each.
async fn pages(service: &Service, path: &str, between: impl AsyncFn(usize)) -> Vec<Vec<String>> {
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let reply = service.get(&format!("{path}{next}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let body = reply.json();
        found.push(names(&body["holodules"]));
        match &body["next"] {
            Value::Null => return found,
            cursor => next = format!("&cursor={}", cursor.as_str().unwrap()),
        }
        assert!(found.len() < 100, "the pages do not end");
        between(found.len()).await;
    }
}

async fn store_ten(service: &Service) {
    // Pairs with the same time, ordered by key.
    let streams = (0..10).map(|n| {
        let code = if n % 2 == 0 { "HL0001" } else { "HL0002" };
        stream(code, &format!("20201209 2{}0000", n / 4), &format!("v{n}"))
    });
    service.holodules(streams).await;
}

async fn pages_are_the_whole_list_in_order(service: &Service) {
    store_ten(service).await;
    for sort in ["starts_at", "-starts_at"] {
        let path = format!("{PATH}&sort={sort}");
        let whole = pages(service, &path, async |_| {}).await;
        assert_eq!((whole.len(), whole[0].len()), (1, 10));
        for limit in [1, 3, 9, 10, 11] {
            let found = pages(service, &format!("{path}&limit={limit}"), async |_| {}).await;
            assert!(found[..found.len() - 1].iter().all(|page| page.len() == limit));
            assert_eq!(found.concat(), whole.concat(), "{sort} {limit}");
        }
    }
    let page = service.get(&format!("{PATH}&limit=3")).await.json();
    assert_eq!((page["total"].as_u64(), page["holodules"].as_array().unwrap().len()), (Some(10), 3));
    let next = page["next"].as_str().unwrap();
    let second = service.get(&format!("{PATH}&limit=5&cursor={next}")).await.json();
    assert_eq!((second["total"].as_u64(), second["holodules"].as_array().unwrap().len()), (Some(10), 5));
}

async fn inserts_repeat_and_skip_nothing(service: &Service) {
    store_ten(service).await;
    let before = pages(service, PATH, async |_| {}).await.concat();
    let found = pages(service, &format!("{PATH}&limit=2"), async |page| {
        // One before what was read, one after it.
        let early = stream("HL0003", "20201209 000000", &format!("early{page}"));
        let late = stream("HL0003", "20201210 000000", &format!("late{page}"));
        service.holodules([early, late]).await;
    })
    .await
    .concat();
    let of_before: Vec<_> = found.iter().filter(|video| before.contains(video)).cloned().collect();
    assert_eq!(of_before, before);
    assert!(!found.iter().any(|video| video.starts_with("early")));
    assert!(found.iter().any(|video| video.starts_with("late")));
}

async fn the_cursor_of_another_list_is_refused(service: &Service) {
    store_ten(service).await;
    let next = service.get(&format!("{PATH}&limit=1")).await.json()["next"].as_str().unwrap().to_owned();
    for query in ["&sort=-starts_at", "&code=HL0001", "&status=past"] {
        assert_eq!(service.get(&format!("{PATH}{query}&cursor={next}")).await.status, 400, "{query}");
    }
    assert_eq!(service.get(&format!("/holodules?from=20201209&cursor={next}")).await.status, 400);
    // Forged: every character changed.
    for at in 0..next.len() {
        let mut forged = next.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let status = service.get(&format!("{PATH}&cursor={forged}")).await.status;
        assert!(status == 400 || status == 200, "{forged}: {status}");
    }
}

on_both_engines! {
    pages_are_the_whole_list_in_order,
    inserts_repeat_and_skip_nothing,
    the_cursor_of_another_list_is_refused,
}
