//! `headers_from_claims`: which claims of a principal a service receives, and that no client can send them instead.

use holodule_gateway::token::Digest;
use serde_json::json;

use super::{scoped, with};
use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::h2::Http2;
use crate::support::revocation::RevocationStub;
use crate::support::{Gateway, admin, until};

const ROUTES: &str = "[{ path = '/claims', methods = ['GET', 'POST'], \
     headers_from_claims = { X-Auth-Roles = 'scope', X-Groups = 'scope', Remote-User = 'identity' } }, \
     { path = '/none', methods = ['GET', 'POST'] }, \
     { path = '/public', methods = ['GET', 'POST'], public = true }, \
     { path = '/cached', methods = ['GET'], shared = true, vary = ['X-Vary'] }]";

const WORD: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Spellings of the headers that routes set, besides `X-Auth-*`.
const SPELLINGS: [&str; 8] =
    ["X-Groups", "x-groups", "X_Groups", "X_GROUPS", "Remote-User", "remote_user", "REMOTE-USER", "X-Auth-Roles"];

fn served(_: &Seen) -> Vec<Step> {
    answer("200 OK", &[("Cache-Control", "s-maxage=600")], "")
}

async fn start(settings: &[(&str, &str)]) -> (Backend, Backend, Gateway) {
    let (service, admin) = (Backend::start(served).await, admin().await);
    let settings: Vec<_> = [("ROUTE", ROUTES)].into_iter().chain(settings.iter().copied()).collect();
    let gateway = Gateway::start_with(&service, &admin, &settings);
    (service, admin, gateway)
}

/// What the only request says of the principal, in any spelling: names in lower case, sorted.
fn said(service: &Backend) -> Vec<(String, String)> {
    let is_of_interest = |name: &str| {
        let name = name.replace('_', "-");
        ["x-groups", "remote-user"].contains(&name.as_str()) || name.starts_with("x-auth-")
    };
    let fields = service.only().headers.into_iter().map(|(name, value)| (name.to_lowercase(), value));
    let mut said: Vec<_> = fields.filter(|(name, _)| is_of_interest(name)).collect();
    said.sort();
    service.forget();
    said
}

fn expected(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn the_service_receives_the_scopes_and_the_identity_of_its_route() {
    let machine =
        format!("[{{ name = 'm', sha256 = '{}', routes = ['*'], scopes = ['b', 'a'] }}]", Digest::of(WORD.as_bytes()));
    let (service, _admin, gateway) = start(&[("STATIC_TOKEN", &machine)]).await;
    for (token, scope, identity) in
        [(scoped("viewer editor"), "editor viewer", "user01"), (WORD.to_owned(), "a b", "static%3Am")]
    {
        for method in ["GET", "POST"] {
            gateway.exchange(with(method, "/claims", &token, "Content-Length: 0\r\n")).await;
            let fields = [
                ("remote-user", identity),
                ("x-auth-identity", identity),
                ("x-auth-roles", scope),
                ("x-groups", scope),
            ];
            assert_eq!(said(&service), expected(&fields), "{method}");
            gateway.exchange(with(method, "/none", &token, "Content-Length: 0\r\n")).await;
            assert_eq!(said(&service), expected(&[("x-auth-identity", identity)]), "{method}");
        }
    }
    gateway.exchange(with("GET", "/claims", &scoped(""), "")).await;
    assert_eq!(said(&service), expected(&[("remote-user", "user01"), ("x-auth-identity", "user01")]));
}

#[tokio::test]
async fn the_current_roles_are_sent_and_not_those_of_the_token() {
    let (stub, admin) = RevocationStub::start().await;
    let service = Backend::start(served).await;
    let gateway = RevocationStub::gateway(&service, &admin, &[("ROUTE", ROUTES)]);
    gateway.ready().await;
    for roles in [json!(["editor"]), json!([]), json!(["a", "b"])] {
        let status = json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles});
        stub.change("user01", status);
        let sent: Vec<_> = roles.as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
        let wanted: Vec<_> = Some(sent.join(" ")).into_iter().filter(|text| !text.is_empty()).collect();
        until("the roles are sent", async || {
            gateway.exchange(with("GET", "/claims", &scoped("admin"), "")).await;
            let seen = service.only().values("x-auth-roles").into_iter().map(str::to_owned).collect::<Vec<_>>();
            service.forget();
            assert!(!seen.contains(&"admin".to_owned()), "the role of the token");
            seen == wanted
        })
        .await;
    }
}

#[tokio::test]
async fn no_spelling_of_a_client_reaches_a_service_on_any_route() {
    let (service, _admin, gateway) = start(&[]).await;
    let token = scoped("viewer");
    for spelling in SPELLINGS {
        for (path, of_principal) in [
            (
                "/claims",
                &[
                    ("remote-user", "user01"),
                    ("x-auth-identity", "user01"),
                    ("x-auth-roles", "viewer"),
                    ("x-groups", "viewer"),
                ][..],
            ),
            ("/none", &[("x-auth-identity", "user01")]),
            ("/public", &[]),
        ] {
            for method in ["GET", "POST"] {
                let headers = format!(
                    "{spelling}: admin\r\n{spelling}: root\r\nConnection: {spelling}, x-groups\r\nContent-Length: 0\r\n"
                );
                let answer = gateway.exchange(with(method, path, &token, &headers)).await;
                assert_eq!(answer.status, 200, "{spelling} {path}: {answer:?}");
                assert_eq!(said(&service), expected(of_principal), "{method} {path} {spelling}");
            }
        }
    }
    // As every spelling of the gateway's own fields.
    for spelling in ["X_Auth_Roles", "x-auth_roles"] {
        let answer = gateway.exchange(with("GET", "/none", &token, &format!("{spelling}: admin\r\n"))).await;
        assert_eq!(answer.status, 400, "{spelling}: {answer:?}");
    }
    assert!(service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_reaches_a_service_over_http_2() {
    let (service, _admin, gateway) = start(&[]).await;
    let client = Http2::open(gateway.https).await;
    for spelling in ["x-groups", "x_groups", "remote-user", "remote_user", "x-auth-roles"] {
        let request = http::Request::builder().uri("https://localhost/none").header(spelling, "admin");
        let request = request.header("authorization", format!("Bearer {}", scoped("viewer"))).body("").unwrap();
        assert_eq!(client.exchange(request).await.status, 200, "{spelling}");
        assert_eq!(said(&service), expected(&[("x-auth-identity", "user01")]), "{spelling}");
    }
}

#[tokio::test]
async fn a_request_that_fills_the_cache_has_no_claims() {
    let (service, _admin, gateway) = start(&[("CACHE_MAX_BYTES", "67108864")]).await;
    let headers = "X-Groups: admin\r\nRemote_User: root\r\nX-Vary: a\r\n";
    let answer = gateway.exchange(with("GET", "/cached", &scoped("viewer"), headers)).await;
    assert_eq!((answer.status, answer.value("x-cache")), (200, "miss"));
    assert_eq!(service.only().values("x-vary"), ["a"]);
    assert_eq!(said(&service), expected(&[]));
}
