//! Several addresses of the backend's admin listener.

use std::time::Duration;

use crate::auth::{login, user01};
use crate::support::backend::{Backend, Step};
use crate::support::{Gateway, admin, api, until};

#[tokio::test]
async fn logins_go_to_another_address_while_one_is_down() {
    let api = api().await;
    let (mut first, mut second) = (admin().await, admin().await);
    let addresses = format!("['{}', '{}']", first.address, second.address);
    let gateway =
        Gateway::start_from(&[("UPSTREAM_API", api.address.as_str()), ("UPSTREAM_ADMIN", addresses.as_str())]);
    gateway.ready().await;
    assert_eq!(gateway.exchange(login(user01())).await.status, 200);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    first.stop().await;
    for _ in 0..3 {
        assert_eq!(gateway.exchange(login(user01())).await.status, 200);
    }
    assert_eq!(second.seen().len(), 3);
    let restarted = Backend::start_at(first.address.parse().unwrap(), crate::support::verify_user01).await;
    second.stop().await;
    until("the first is used again", async || gateway.exchange(login(user01())).await.status == 200).await;
    assert!(!restarted.seen().is_empty());
    let page = gateway.ops("/readyz").await.1;
    assert!(page.contains("\"admin\":\"up\""), "{page}");
}

/// A login may have been counted, or may be slow on purpose.
#[tokio::test]
async fn a_login_is_not_sent_again() {
    let api = api().await;
    let script = |seen: &crate::support::backend::Seen| match seen.method.as_str() {
        "POST" => vec![Step::Wait(Duration::from_millis(10)), Step::Close],
        _ => crate::support::answer_of("ok"),
    };
    let (first, second) = (Backend::start(script).await, admin().await);
    let addresses = format!("['{}', '{}']", first.address, second.address);
    let gateway =
        Gateway::start_from(&[("UPSTREAM_API", api.address.as_str()), ("UPSTREAM_ADMIN", addresses.as_str())]);
    assert_eq!(gateway.exchange(login(user01())).await.status, 503);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    // The next one does not go to the address that failed.
    assert_eq!(gateway.exchange(login(user01())).await.status, 200);
}
