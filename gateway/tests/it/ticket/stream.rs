//! A stream that was opened with a ticket lasts as long as one that was opened with the token.

use serde_json::json;

use super::ticket;
use crate::stream::{Service, Stream};
use crate::support::revocation::RevocationStub;
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{Gateway, admin, until};

const ROUTES: (&str, &str) = ("ROUTE", "[{ name = 'events', methods = ['GET'], path = '/events', tickets = true }]");

async fn open(service: &Service, gateway: &Gateway, token: &str) -> Stream {
    let text = ticket(gateway, token, "/events").await;
    let stream = Stream::open_bare(gateway.https, &format!("/events?ticket={text}")).await;
    assert_eq!(stream.status, 200);
    until("the stream is open", async || service.open() > 0).await;
    stream
}

#[tokio::test]
async fn it_ends_with_a_revocation_and_after_the_grace_of_the_token() {
    let (stub, accounts) = RevocationStub::start().await;
    let service = Service::start().await;
    let gateway = RevocationStub::gateway(&service.backend, &accounts, &[ROUTES]);
    gateway.ready().await;
    let mut stream = open(&service, &gateway, &token("user01")).await;
    service.send("data: 1\n\n");
    stream.until("data: 1\n\n").await;
    stub.change("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    assert_eq!(stream.next().await, None);

    let (service, admin) = (Service::start().await, admin().await);
    let gateway = Gateway::start_with(&service.backend, &admin, &[ROUTES, ("STREAM_GRACE", "1")]);
    let now_then = now();
    let claims = json!({"exp": now_then + 2, "iat": now_then, "nbf": now_then, "identity": "user01"});
    let mut stream = open(&service, &gateway, &signed(HEADER, &claims.to_string())).await;
    assert_eq!(stream.next().await, None);
    assert_eq!(now() - now_then, 3);
}
