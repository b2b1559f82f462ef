//! Forwarded requests: their headers, target and destination, and the response headers that name the upstream.

use std::collections::BTreeMap;

use crate::support::backend::{Backend, Step};
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, serve_day};

/// A `GET` with a token of `identity` and these headers.
fn get(path: &str, identity: &str, headers: &str) -> String {
    let token = token(identity);
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8443\r\nAuthorization: JWT {token}\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_forwarded_request_has_exactly_these_headers() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let answer = gateway.exchange(get(DAY, "user01", "Accept: */*\r\nIf-None-Match: \"x\"\r\n")).await;
    let seen = api.only();
    let headers: BTreeMap<_, _> =
        seen.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    let expected = BTreeMap::from([
        ("accept", "*/*"),
        ("host", api.address.as_str()),
        ("if-none-match", "\"x\""),
        ("x-auth-identity", "user01"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost:8443"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", answer.value("x-request-id")),
    ]);
    let expected = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(headers, expected);
    assert_eq!(seen.headers.len(), headers.len(), "no duplicates");
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", DAY));
}

#[tokio::test]
async fn identity_and_override_headers_of_a_client_are_removed() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let names = [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "X-Auth-Identity",
        "X-Auth-Role",
        "x-auth-",
        "X-Request-Id",
        "X-Client-IP",
        "True-Client-IP",
        "Remote-User",
        "Remote_User",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Proxy",
    ];
    let headers: String = names.iter().map(|name| format!("{name}: spoofed\r\n{name}: spoofed twice\r\n")).collect();
    gateway.exchange(get(DAY, "user01", &headers)).await;
    let seen = api.only();
    let spoofed: Vec<_> = seen.headers.iter().filter(|(_, value)| value.contains("spoofed")).collect();
    assert!(spoofed.is_empty(), "{spoofed:?}");
    assert!(seen.values("authorization").is_empty());
    assert_eq!(seen.values("x-auth-identity"), ["user01"]);
}

#[tokio::test]
async fn headers_of_the_gateway_cannot_be_removed_as_hop_by_hop() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let headers = "Connection: X-Auth-Identity, x-request-id, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                   TE: trailers\r\nProxy-Connection: x\r\nProxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\n";
    let answer = gateway.exchange(get(DAY, "user01", headers)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = api.only();
    for name in ["x-auth-identity", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "host"]
    {
        assert_eq!(seen.values(name).len(), 1, "{name}: {seen:?}");
    }
    for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"] {
        assert!(seen.values(name).is_empty(), "{name}: {seen:?}");
    }
    // The gateway's own, since it passes on trailers.
    assert_eq!((seen.values("te"), seen.values("connection")), (vec!["trailers"], vec!["te"]), "{seen:?}");
    api.forget();
    // Naming one of these has no effect, since the gateway sets them afterwards.
    for named in ["Host", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-Request-Id"] {
        let answer = gateway.exchange(get(DAY, "user01", &format!("Connection: {named}\r\n"))).await;
        assert_eq!(answer.status, 200, "{named}: {answer:?}");
    }
    for seen in api.seen() {
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "host"] {
            assert_eq!(seen.values(name).len(), 1, "{name}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn identities_are_percent_encoded() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let rows = [
        ("azAZ09-._~", "azAZ09-._~"),
        ("user 01", "user%2001"),
        ("a+b@c/d?e#f%g", "a%2Bb%40c%2Fd%3Fe%23f%25g"),
        ("ユーザー", "%E3%83%A6%E3%83%BC%E3%82%B6%E3%83%BC"),
        ("a\r\nX-Auth-Role: admin", "a%0D%0AX-Auth-Role%3A%20admin"),
        ("\u{0}\t", "%00%09"),
        ("a, b", "a%2C%20b"),
        (" ", "%20"),
    ];
    let mut connection = gateway.connect().await;
    for (identity, expected) in rows {
        assert_eq!(connection.exchange(get(DAY, identity, "")).await.status, 200, "{identity:?}");
        let seen = api.only();
        assert_eq!(seen.values("x-auth-identity"), [expected]);
        assert!(seen.values("x-auth-role").is_empty());
        api.forget();
    }
}

#[tokio::test]
async fn every_request_has_a_unique_id() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let mut ids = std::collections::BTreeSet::new();
    for path in [DAY, DAY, "/nothing"] {
        let answer = connection.exchange(get(path, "user01", "X-Request-Id: mine\r\n")).await;
        ids.insert(answer.value("x-request-id").to_owned());
    }
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains("mine"));
}

#[tokio::test]
async fn a_route_matches_its_aliases_and_no_other_path() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("STRIP_PREFIX", "['/holoapi']")]);
    let mut connection = gateway.connect().await;
    for path in [DAY, "/Holodules/20201209", "/holoapi/holodules/20201209", "/holoapi/Holodules/20201209"] {
        assert_eq!(connection.exchange(get(path, "user01", "")).await.status, 200, "{path}");
    }
    let targets: Vec<_> = api.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, [DAY; 4]);
    api.forget();
    for path in [
        "/HOLODULES/20201209",
        "/holodules/",
        "/holodules/20201209/",
        "/holoapi/holoapi/holodules/20201209",
        "/holoapix/holodules/20201209",
        "/holoapi",
        "/auth/",
        "/Auth",
        "/metrics",
        "/healthz",
        "/users",
        "/credentials/verify",
    ] {
        let answer = connection.exchange(get(path, "user01", "")).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.assert_json(404, r#"{"error":"Not found"}"#);
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn other_methods_are_405_and_never_forwarded() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "get"] {
        let request = get(DAY, "user01", "").replacen("GET", method, 1);
        let answer = gateway.exchange(request).await;
        assert_eq!(answer.status, 405, "{method}");
        answer.assert_json(405, r#"{"error":"Method Not Allowed"}"#);
        assert_eq!(answer.value("allow"), "GET, HEAD");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn only_declared_query_names_are_forwarded() {
    let (api, admin) = (api().await, admin().await);
    let routes = "[{name = 'days', methods = ['GET'], path = '/holodules/{day}', query = ['page', 'q']}]";
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", routes)]);
    let rows = [
        ("?page=2&x=1&q=a%20b&token=t", "?page=2&q=a%20b"),
        ("?page&pages=1&Page=1&=1&q=", "?page&q="),
        ("?x=1", ""),
        ("?", ""),
        ("?p%61ge=1", ""),
        ("?page=1?x=2", "?page=1?x=2"),
    ];
    let mut connection = gateway.connect().await;
    for (query, forwarded) in rows {
        assert_eq!(connection.exchange(get(&format!("{DAY}{query}"), "user01", "")).await.status, 200, "{query}");
        assert_eq!(api.only().target, format!("{DAY}{forwarded}"), "{query}");
        api.forget();
    }
    // The default route declares none.
    let gateway = Gateway::start(&api, &admin);
    gateway.exchange(get(&format!("{DAY}?page=2&callback=x"), "user01", "")).await;
    assert_eq!(api.only().target, DAY);
}

#[tokio::test]
async fn path_segments_are_forwarded_unchanged() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for segment in ["%E3%83%9B", "a%20b", "a:b@c,d=e&f'(g)*!$+", "-._~", "2020-12-09"] {
        for prefix in ["/holodules/", "/Holodules/"] {
            assert_eq!(
                gateway.exchange(get(&format!("{prefix}{segment}"), "user01", "")).await.status,
                200,
                "{segment}"
            );
            assert_eq!(api.only().target, format!("/holodules/{segment}"));
            api.forget();
        }
    }
}

#[tokio::test]
async fn upstreams_may_be_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let api = Backend::start_unix(&folder.path().join("api.sock"), serve_day);
    let admin = Backend::start_unix(&folder.path().join("admin.sock"), crate::support::verify_user01);
    let gateway = Gateway::start(&api, &admin);
    gateway.ready().await;
    assert_eq!(gateway.get(DAY).await.status, 200);
    assert_eq!(api.only().values("host"), ["localhost"]);
    let answer = gateway.exchange(crate::auth::login(crate::auth::user01())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn upstreams_may_be_host_names() {
    let (api, admin) = (api().await, admin().await);
    let named = |address: &str| address.replace("127.0.0.1", "localhost");
    let settings = [("UPSTREAM_API", named(&api.address)), ("UPSTREAM_ADMIN", named(&admin.address))];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let gateway = Gateway::start_with(&api, &admin, &settings);
    gateway.ready().await;
    assert_eq!(gateway.get(DAY).await.status, 200);
    assert_eq!(api.only().values("host"), [named(&api.address)]);
    let answer = gateway.exchange(crate::auth::login(crate::auth::user01())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A backend that responds with exactly these bytes, and its gateway.
async fn start_verbatim(answer: &'static str) -> (Backend, Gateway) {
    let (api, admin) = (Backend::start(move |_| vec![Step::Write(answer.into())]).await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    (api, gateway)
}

#[tokio::test]
async fn a_repeated_content_length_of_the_backend_is_sent_once() {
    for (answer, status, lengths, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, &["5"][..], "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", 200, &["5"], "hello"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, &[], ""),
    ] {
        let (_api, gateway) = start_verbatim(answer).await;
        let mut connection = gateway.connect().await;
        // The second request shows that the end of the first response was found.
        for _ in 0..2 {
            let received = connection.exchange(get(DAY, "user01", "")).await;
            assert_eq!(received.status, status, "{answer:?}");
            assert_eq!(received.values("content-length"), lengths, "{answer:?}");
            assert_eq!(received.body, body, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_response_without_a_length_to_http_1_0_has_connection_close() {
    let (_api, gateway) =
        start_verbatim("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let mut connection = gateway.connect().await;
    connection.send(get(DAY, "user01", "Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0")).await;
    let received = String::from_utf8(connection.rest().await).unwrap().to_lowercase();
    assert!(received.contains("connection: close\r\n") && received.ends_with("\r\n\r\nhello"), "{received}");
    assert!(!received.contains("keep-alive") && !received.contains("transfer-encoding"), "{received}");
}

/// Responds with locations that have the host of the request's `Host`, over HTTP and over HTTPS.
fn respond_with_locations(seen: &crate::support::backend::Seen) -> Vec<Step> {
    let host = seen.values("host").join("");
    let (location, content) = (format!("http://{host}/a?b"), format!("https://{host}/c"));
    let link = format!("<http://{host}/d,e>; rel=next; anchor=\"//{host}/f\", </g>; title=\"h, <i>\"");
    let malformed = format!("http://{host}/j; rel=prev");
    let refresh = format!("5; url='http://{host}/k'");
    let headers = [
        ("Location", location.as_str()),
        ("Content-Location", content.as_str()),
        ("Link", link.as_str()),
        ("Link", malformed.as_str()),
        ("Refresh", refresh.as_str()),
        ("Cache-Control", "public, s-maxage=600"),
        ("X-Seen-Host", host.as_str()),
    ];
    crate::support::backend::answer("200 OK", &headers, "body")
}

#[tokio::test]
async fn clients_never_see_the_address_of_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let admin = admin().await;
    for api in [
        Backend::start(respond_with_locations).await,
        Backend::start_unix(&folder.path().join("api.sock"), respond_with_locations),
    ] {
        for settings in [&[][..], &[("CACHE_MAX_BYTES", "67108864")]] {
            let gateway = Gateway::start_with(&api, &admin, settings);
            // Under every name, from the backend and from the cache.
            for host in ["localhost", "localhost:8443", "localhost:8443", "LOCALHOST", "127.0.0.1:1", "localhost"] {
                let request = get(DAY, "user01", "").replace("localhost:8443", host);
                let answer = gateway.exchange(request).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let expected = [format!("https://{host}/a?b"), format!("https://{host}/c")].map(|at| at.to_lowercase());
                let received = [answer.value("location"), answer.value("content-location")].map(str::to_lowercase);
                assert_eq!(received, expected, "{answer:?}");
                let link =
                    format!("<https://{host}/d,e>; rel=next; anchor=\"https://{host}/f\", </g>; title=\"h, <i>\"");
                let expected = [link, format!("5; url='https://{host}/k'")].map(|value| value.to_lowercase());
                // The malformed `Link` is removed.
                let received = [answer.value("link"), answer.value("refresh")].map(str::to_lowercase);
                assert_eq!(received, expected, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn other_locations_are_passed_on_unchanged() {
    let response = "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/a\r\nContent-Location: /b\r\n\
                Link: </c>; rel=next\r\nLink: malformed, <https://elsewhere.example/d\r\n\
                Refresh: 5; url=https://elsewhere.example/e\r\nContent-Length: 0\r\n\r\n";
    let (_api, gateway) = start_verbatim(response).await;
    let answer = gateway.exchange(get(DAY, "user01", "")).await;
    let received = (answer.status, answer.value("location"), answer.value("content-location"));
    assert_eq!(received, (302, "https://elsewhere.example/a", "/b"));
    assert_eq!(answer.values("link"), ["</c>; rel=next", "malformed, <https://elsewhere.example/d"]);
    assert_eq!(answer.value("refresh"), "5; url=https://elsewhere.example/e");
}

#[tokio::test]
async fn the_host_sent_to_the_upstream_is_configured_per_route() {
    let admin = admin().await;
    for (host, settings) in [("upstream", &[][..]), ("client", &[]), ("client", &[("CACHE_MAX_BYTES", "67108864")])] {
        let api = Backend::start(respond_with_locations).await;
        let routes = format!(
            "[{{name = 'days', methods = ['GET'], path = '/holodules/{{day}}', shared = true, host = '{host}'}}]"
        );
        let settings: Vec<_> = settings.iter().copied().chain([("ROUTE", routes.as_str())]).collect();
        let gateway = Gateway::start_with(&api, &admin, &settings);
        let answer = gateway.exchange(get(DAY, "user01", "")).await;
        let seen = api.only();
        let expected = if host == "client" { "localhost:8443" } else { api.address.as_str() };
        assert_eq!((seen.values("host"), seen.values("x-forwarded-host")), (vec![expected], vec!["localhost:8443"]));
        assert_eq!(answer.value("location"), "https://localhost:8443/a?b", "{answer:?}");
        assert_eq!(answer.value("content-location"), "https://localhost:8443/c", "{answer:?}");
    }
}
