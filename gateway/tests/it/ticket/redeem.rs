//! A ticket instead of a token: where it is accepted, how often, and what it allows.

use holodule_gateway::token::{Digest, Key, Keys, Parent, Settings, Ticket};
use serde_json::json;

use super::{ROUTES, assert_no_token, assert_refused, bare, echo, get, of_user01, request_for, sign, ticket};
use crate::role::scoped;
use crate::stream::rfc_3339;
use crate::support::backend::Backend;
use crate::support::h2::Http2;
use crate::support::revocation::RevocationStub;
use crate::support::token::{now, token};
use crate::support::{Gateway, admin, until};

async fn start() -> (Backend, Backend, Gateway) {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    (service, admin, gateway)
}

#[tokio::test]
async fn a_ticket_is_accepted_once_by_each_gateway_and_is_not_forwarded() {
    let (service, admin, gateway) = start().await;
    let other = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES)]);
    for (path, query, forwarded) in [
        ("/events", "ticket={}", "/events"),
        ("/events", "since=1&ticket={}&x=2", "/events?since=1"),
        ("/rooms/a/b", "x=1&ticket={}&y", "/rooms/a/b?x=1&y"),
        ("/rooms/a%2Fb", "%74icket={}", "/rooms/a%2Fb"),
    ] {
        let ticket = ticket(&gateway, &token("user01"), path).await;
        let target = format!("{path}?{}", query.replace("{}", &ticket));
        for gateway in [&gateway, &other] {
            service.forget();
            let answer = get(gateway, &target).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, forwarded), "{answer:?}");
            let seen = service.only();
            assert_eq!(seen.values("x-auth-identity"), ["user01"]);
            assert_eq!(seen.values("authorization"), Vec::<&str>::new());
            for _ in 0..2 {
                assert_refused(&get(gateway, &target).await);
            }
        }
    }
    // Over HTTP/2.
    let ticket = ticket(&gateway, &token("user01"), "/events").await;
    let client = Http2::open(gateway.https).await;
    let request = || http::Request::get(format!("https://localhost/events?ticket={ticket}")).body("").unwrap();
    assert_eq!(client.exchange(request()).await.status, 200);
    assert_refused(&client.exchange(request()).await);
    assert_eq!(gateway.metric("gateway_token_refusals_total{reason=\"ticket_used\"}").await, Some(9.0));
}

#[tokio::test]
async fn of_concurrent_requests_with_one_ticket_one_is_accepted() {
    let (service, _admin, gateway) = start().await;
    let ticket = ticket(&gateway, &token("user01"), "/events").await;
    let client = Http2::open(gateway.https).await;
    let request = || http::Request::get(format!("https://localhost/events?ticket={ticket}")).body("").unwrap();
    let answers = futures_util::future::join_all((0..50).map(|_| client.exchange(request()))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 49);
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn it_is_for_one_path_of_one_host_and_get_only() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("HOSTS", "['other.example']"), ("STRIP_PREFIX", "['/app']")];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    let ticket = ticket(&gateway, &token("user01"), "/rooms/1").await;
    let with = |path: &str| format!("{path}?ticket={ticket}");
    for path in ["/events", "/rooms/2", "/rooms/1/", "/rooms/1%2F"] {
        assert_refused(&get(&gateway, &with(path)).await);
    }
    let elsewhere = bare("GET", &with("/rooms/1"), "").replace("localhost", "other.example");
    assert_refused(&gateway.exchange(elsewhere).await);
    for method in ["HEAD", "POST", "DELETE"] {
        let answer = gateway.exchange(bare(method, &with("/rooms/1"), "")).await;
        assert_eq!(answer.status, 401, "{method}");
    }
    // Where there are no tickets, the parameter is as any other.
    assert_no_token(&get(&gateway, &with("/notes")).await);
    assert_no_token(&get(&gateway, &with("/none")).await);
    assert!(service.seen().is_empty());
    let token = format!("Authorization: Bearer {}\r\n", token("user01"));
    assert_eq!(gateway.exchange(bare("GET", "/notes?ticket=7&x=1", &token)).await.body, "/notes?ticket=7");
    // None of these used it up, and a prefix that is stripped makes no difference.
    assert_eq!(get(&gateway, &with("/app/rooms/1")).await.status, 200);
    assert_refused(&get(&gateway, &with("/rooms/1")).await);
}

#[tokio::test]
async fn one_credential_is_allowed() {
    let (service, _admin, gateway) = start().await;
    let text = ticket(&gateway, &token("user01"), "/events").await;
    let both = r#"{"status_code":400,"error":"Bad Request","description":"The request must have one ticket and no Authorization"}"#;
    for headers in [format!("Authorization: Bearer {}\r\n", token("user01")), "Authorization: \r\n".to_owned()] {
        gateway.exchange(bare("GET", &format!("/events?ticket={text}"), &headers)).await.assert_json(400, both);
    }
    for query in
        [format!("ticket={text}&ticket={text}"), format!("ticket=&ticket={text}"), format!("%74icket&ticket={text}")]
    {
        get(&gateway, &format!("/events?{query}")).await.assert_json(400, both);
    }
    assert!(service.seen().is_empty());
    assert_eq!(get(&gateway, &format!("/events?ticket={text}")).await.status, 200);
    // A token alone works as on any route.
    let header = format!("Authorization: Bearer {}\r\n", token("user01"));
    assert_eq!(gateway.exchange(bare("GET", "/events?since=2", &header)).await.body, "/events?since=2");
}

#[tokio::test]
async fn forged_and_expired_tickets_are_refused() {
    let (service, _admin, gateway) = start().await;
    let (now, user) = (now() * 1000, token("user01"));
    let text = ticket(&gateway, &user, "/events").await;
    let mut flipped = text.clone();
    flipped.replace_range(
        text.len() / 2..=text.len() / 2,
        if &text[text.len() / 2..=text.len() / 2] == "A" { "B" } else { "A" },
    );
    let of_machine = Parent::Static { identity: "static:m".into(), sha256: Digest::of(b"secret") };
    for (case, text) in [
        ("a token", user.clone()),
        ("empty", String::new()),
        ("no ticket", "x".to_owned()),
        ("too long", "x".repeat(1500)),
        ("changed", flipped),
        ("cut", text[..text.len() - 1].to_owned()),
        ("longer", format!("{text}.")),
        ("encoded", text.replacen('e', "%65", 1)),
        ("expired", sign(&of_user01(1, now - 30_000))),
        ("from the future", sign(&of_user01(2, now + 65_000))),
        ("unknown machine", sign(&Ticket { parent: of_machine, ..of_user01(3, now + 1000) })),
    ] {
        let answer = get(&gateway, &format!("/events?ticket={text}")).await;
        assert_eq!(answer.status, 401, "{case}");
        assert_refused(&answer);
    }
    // A ticket is no token either.
    let header = format!("Authorization: Bearer {text}\r\n");
    let answer = gateway.exchange(bare("GET", "/events", &header)).await;
    assert_eq!((answer.status, answer.json()["description"].as_str()), (401, Some("Signature verification failed")));
    assert!(service.seen().is_empty());
    assert_eq!(get(&gateway, &format!("/events?ticket={}", sign(&of_user01(4, now + 1000)))).await.status, 200);
}

#[tokio::test]
async fn tickets_of_an_earlier_run_are_refused_since_they_may_have_been_used() {
    let before = now() * 1000 - 1;
    let (service, _admin, gateway) = start().await;
    assert_refused(&get(&gateway, &format!("/events?ticket={}", sign(&of_user01(1, before - 1000)))).await);
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn revocations_and_roles_apply_as_for_the_token() {
    let (stub, admin) = RevocationStub::start().await;
    let service = Backend::start(echo).await;
    let gateway = RevocationStub::gateway(&service, &admin, &[("ROUTE", ROUTES)]);
    gateway.ready().await;
    let roles = |roles: &[&str]| json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles});
    stub.set("user01", roles(&["viewer"]));
    let user = scoped("other");
    let allowed = ticket(&gateway, &user, "/roles").await;
    assert_eq!(get(&gateway, &format!("/roles?ticket={allowed}")).await.status, 200);
    assert_eq!(service.only().values("x-auth-roles"), ["viewer"]);
    // The role is lost after the ticket was issued.
    let forbidden = ticket(&gateway, &user, "/roles").await;
    stub.change("user01", roles(&["editor"]));
    until("the change is known", async || {
        let answer = gateway.exchange(bare("GET", "/roles", &format!("Authorization: Bearer {user}\r\n"))).await;
        answer.status == 403
    })
    .await;
    let answer = get(&gateway, &format!("/roles?ticket={forbidden}")).await;
    answer.assert_json(403, r#"{"error":"Forbidden"}"#);
    // While the status is unknown, the ticket is not used up.
    let text = ticket(&gateway, &user, "/events").await;
    stub.set_answering(false);
    stub.change("user01", roles(&[]));
    until("the status is unknown", async || get(&gateway, &format!("/events?ticket={text}")).await.status == 503).await;
    stub.set_answering(true);
    until("the status is known", async || get(&gateway, &format!("/events?ticket={text}")).await.status == 200).await;
    // The token is logged out.
    let text = ticket(&gateway, &user, "/events").await;
    let logout = bare("POST", "/auth/logout", &format!("Authorization: Bearer {user}\r\nContent-Length: 0\r\n"));
    assert_eq!(gateway.exchange(logout).await.status, 204);
    let answer = get(&gateway, &format!("/events?ticket={text}")).await;
    answer.assert_json(401, r#"{"status_code":401,"error":"Invalid JWT","description":"User does not exist"}"#);
    assert_eq!(gateway.exchange(request_for(&user, "/events")).await.status, 401);
}

#[tokio::test]
async fn without_revocation_the_scopes_are_those_of_the_token() {
    let (service, _admin, gateway) = start().await;
    let text = ticket(&gateway, &scoped("editor viewer"), "/roles").await;
    assert_eq!(get(&gateway, &format!("/roles?ticket={text}")).await.status, 200);
    assert_eq!(service.only().values("x-auth-roles"), ["editor viewer"]);
    let text = ticket(&gateway, &scoped("editor"), "/roles").await;
    assert_eq!(get(&gateway, &format!("/roles?ticket={text}")).await.status, 403);
}

#[tokio::test]
async fn a_static_token_has_tickets_for_its_routes_until_it_is_removed() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let machine = |routes: &str| {
        format!("[{{ name = 'm', sha256 = '{}', routes = [{routes}], scopes = ['viewer'] }}]", Digest::of(b"word-0123"))
    };
    let settings = [("ROUTE", ROUTES), ("STATIC_TOKEN", &*machine("'roles'"))];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    assert_eq!(gateway.exchange(request_for("word-0123", "/events")).await.status, 404);
    let text = ticket(&gateway, "word-0123", "/roles").await;
    assert_eq!(get(&gateway, &format!("/roles?ticket={text}")).await.status, 200);
    assert_eq!(service.only().values("x-auth-identity"), ["static%3Am"]);
    let text = ticket(&gateway, "word-0123", "/roles").await;
    gateway.reload(&[("STATIC_TOKEN", &machine("'notes'"))]).unwrap();
    assert_eq!(get(&gateway, &format!("/roles?ticket={text}")).await.status, 404);
    gateway.reload(&[("STATIC_TOKEN", "[]")]).unwrap();
    assert_refused(&get(&gateway, &format!("/roles?ticket={text}")).await);
}

#[tokio::test]
async fn a_ticket_is_refused_after_a_reload_that_may_have_removed_the_key_of_its_token() {
    let key = |id: u8| format!("{{ kid = 'k{id}', secret = '{}' }}", id.to_string().repeat(40));
    let issuer = |id: u8| {
        let key = Key::named(&format!("k{id}"), id.to_string().repeat(40).as_bytes()).unwrap();
        Keys::new(vec![key], Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 }).unwrap()
    };
    let token = |id: u8| issuer(id).issue("user01", "1", now()).unwrap();
    // Tickets are signed with the first.
    let both = format!("[{}, {}]", key(2), key(1));
    let digest = Digest::of(b"word-0123");
    let machine = format!("[{{ name = 'm', sha256 = '{digest}', routes = ['*'] }}]");
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("KEY", both.as_str()), ("STATIC_TOKEN", &machine)];
    let gateway = Gateway::start_with(&service, &admin, &settings);
    let (old, static_token) = (token(1), "word-0123");
    let kept = ticket(&gateway, &old, "/events").await;
    gateway.reload(&[("KEY", &format!("[{}, {}, {}]", key(3), key(2), key(1)))]).unwrap();
    assert_eq!(get(&gateway, &format!("/events?ticket={kept}")).await.status, 200, "no key was removed");
    gateway.reload(&[("KEY", &both)]).unwrap();
    until("tickets are issued again", async || {
        let text = ticket(&gateway, &old, "/events").await;
        get(&gateway, &format!("/events?ticket={text}")).await.status == 200
    })
    .await;
    let (removed, of_machine) =
        (ticket(&gateway, &old, "/events").await, ticket(&gateway, static_token, "/events").await);
    gateway.reload(&[("KEY", &format!("[{}]", key(2)))]).unwrap();
    service.forget();
    assert_refused(&get(&gateway, &format!("/events?ticket={removed}")).await);
    assert!(service.seen().is_empty());
    assert_eq!(get(&gateway, &format!("/events?ticket={of_machine}")).await.status, 200);
    until("tickets are issued again", async || {
        let text = ticket(&gateway, &token(2), "/events").await;
        get(&gateway, &format!("/events?ticket={text}")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_ticket_is_refused_once_a_key_has_retired_that_may_be_that_of_its_token() {
    let key = |id: u8| format!("kid = 'k{id}', secret = '{}'", id.to_string().repeat(40));
    let issuer = Key::named("k1", "1".repeat(40).as_bytes()).unwrap();
    let issuer = Keys::new(vec![issuer], Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 }).unwrap();
    let retires = now() + 3;
    let keys = format!("[{{ {} }}, {{ {}, retire_at = '{}' }}]", key(2), key(1), rfc_3339(retires));
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES), ("KEY", &keys)]);
    let text = ticket(&gateway, &issuer.issue("user01", "1", now()).unwrap(), "/events").await;
    until("the key has retired", async || now() >= retires).await;
    assert_refused(&get(&gateway, &format!("/events?ticket={text}")).await);
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn the_service_of_a_route_with_tickets_receives_none_with_any_method() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let routes =
        "[{ name = 'rooms', methods = ['GET', 'HEAD', 'POST'], path = '/rooms/{*rest}', tickets = true, query = '*' }]";
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", routes)]);
    let text = ticket(&gateway, &token("user01"), "/rooms/1").await;
    for method in ["HEAD", "POST"] {
        let header = format!("Authorization: Bearer {}\r\nContent-Length: 0\r\n", token("user01"));
        let request = bare(method, &format!("/rooms/1?a&%74icket={text}&b=1"), &header);
        assert_eq!(gateway.connect().await.exchange(request).await.status, 200, "{method}");
    }
    assert!(service.seen().iter().all(|seen| seen.target == "/rooms/1?a&b=1"), "{:?}", service.seen());
    // It was not used.
    assert_eq!(get(&gateway, &format!("/rooms/1?ticket={text}")).await.status, 200);
}

#[tokio::test]
async fn odd_queries_neither_authorise_nor_reach_the_service() {
    let (service, _admin, gateway) = start().await;
    let text = ticket(&gateway, &token("user01"), "/rooms/1").await;
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for query in [
        format!("a;ticket={text}"),
        format!("a&Ticket={text}"),
        format!("ticket%20={text}"),
        format!("ticket[]={text}"),
        format!("%2574icket={text}"),
        format!("ticket={text};a"),
        format!("ticket= {text}").replace(' ', "%20"),
        format!("ticket={text}%00"),
        format!("ticket={text}+"),
        "ticket=".to_owned(),
        "ticket".to_owned(),
        "&&ticket&&".to_owned(),
        format!("ticket={}", &encoded[..encoded.len().min(900)]),
    ] {
        let answer = get(&gateway, &format!("/rooms/1?{query}")).await;
        assert!([400, 401].contains(&answer.status), "{query}: {answer:?}");
    }
    assert!(service.seen().is_empty());
    assert_eq!(get(&gateway, &format!("/rooms/1?a&%74%69cket={text}&&")).await.body, "/rooms/1?a&&");
}
