//! Requests that browsers can be made to send to the admin listener are refused.

use crate::http;
use crate::service::{Service, Setup};

#[tokio::test]
async fn an_unknown_host_gets_421_for_every_request() {
    let mut setup = Setup::default();
    setup.handler.allowed_hosts = vec!["admin.example".to_owned()];
    let service = Service::with(setup).await;
    for path in ["/users", "/metrics", "/healthz", "/nowhere"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let reply = http::raw(&service.admin, &request).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (421, Some("Misdirected Request")), "{path}");
        let reason = "the Host \"evil.example\" is not a name of this service; admin.allowed_hosts lists them";
        assert_eq!(reply.json()["description"], reason);
    }
    let named = "GET /healthz HTTP/1.1\r\nHost: admin.example:8081\r\nConnection: close\r\n\r\n";
    assert_eq!(http::raw(&service.admin, named).await.status, 200);
    let absolute = "GET http://evil.example/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(http::raw(&service.admin, absolute).await.status, 421);
    let none = "GET /users HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(http::raw(&service.admin, none).await.status, 400);
}

#[tokio::test]
async fn cross_site_requests_of_a_browser_change_nothing() {
    let service = Service::start().await;
    let user = r#"{"username":"user01","password":"password01"}"#;
    for headers in [
        &[][..],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "text/plain;charset=UTF-8")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "multipart/form-data; boundary=x")],
    ] {
        assert_eq!(http::send(&service.admin, "POST", "/users", headers, user).await.status, 415, "{headers:?}");
        assert_eq!(http::send(&service.admin, "POST", "/holodules", headers, "x").await.status, 415, "{headers:?}");
        assert_eq!(http::send(&service.admin, "POST", "/credentials/verify", headers, user).await.status, 415);
    }
    for site in ["cross-site", "same-site"] {
        let headers = [("Content-Type", "application/json"), ("Sec-Fetch-Site", site)];
        assert_eq!(http::send(&service.admin, "POST", "/users", &headers, user).await.status, 403, "{site}");
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let headers = [("Content-Type", "application/json"), ("Origin", origin)];
        let reply = http::send(&service.admin, "POST", "/users", &headers, user).await;
        assert_eq!(
            (reply.status, reply.json()["description"].as_str()),
            (403, Some("the Origin differs from the Host"))
        );
    }
    assert!(service.store.users().await.unwrap().is_empty());
    let headers = [("Content-Type", "application/json"), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(http::send(&service.admin, "POST", "/users", &headers, user).await.status, 201);
    for headers in [&[][..], &[("Content-Type", "text/plain")]] {
        assert_eq!(http::send(&service.admin, "DELETE", "/users/user01", headers, "").await.status, 415);
    }
    assert_eq!(service.store.users().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_page_of_another_site_embeds_no_response() {
    let service = Service::start().await;
    let get = async |path, headers: &[(&str, &str)]| http::send(&service.admin, "GET", path, headers, "").await;
    for path in ["/users", "/holodules", "/streamers", "/status", "/metrics", "/", "/page/users", "/page/record?id=x"] {
        for (site, mode, destination) in [
            ("cross-site", "no-cors", "image"),
            ("cross-site", "no-cors", "script"),
            ("same-site", "cors", "empty"),
            ("cross-site", "navigate", "iframe"),
            ("cross-site", "navigate", "object"),
        ] {
            let headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination)];
            let reply = get(path, &headers).await;
            assert_eq!(reply.status, 403, "{path} {headers:?}");
            assert_eq!(reply.json()["description"], "cross-site requests are not accepted");
        }
        // A browser of an older version, which does not send all fields.
        assert_eq!(get(path, &[("Sec-Fetch-Site", "cross-site")]).await.status, 403, "{path}");
    }
    for headers in [
        &[][..],
        &[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")],
        &[("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        // A link on another page.
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
    ] {
        for path in ["/users", "/holodules", "/page/users"] {
            assert_eq!(get(path, headers).await.status, 200, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn every_response_is_for_this_origin_only_and_its_type_is_not_guessed() {
    let service = Service::start().await;
    let json = [("Content-Type", "application/json")];
    for (method, path, headers, body, status) in [
        ("GET", "/users", &[][..], "", 200),
        ("GET", "/holodules", &[], "", 200),
        ("GET", "/streamers", &[], "", 200),
        ("GET", "/status", &[], "", 200),
        ("GET", "/metrics", &[], "", 200),
        ("GET", "/healthz", &[], "", 200),
        ("GET", "/page/users", &[], "", 200),
        ("GET", "/nowhere", &[], "", 404),
        ("GET", "/backup", &[], "", 405),
        ("POST", "/users", &[], "{}", 415),
        ("POST", "/users", &json, "{}", 400),
        ("POST", "/users", &json, r#"{"username":"a","password":"password01"}"#, 201),
        ("PUT", "/users/a/roles", &json, "[]", 204),
        ("GET", "/users", &[("Sec-Fetch-Site", "cross-site")], "", 403),
    ] {
        let reply = http::send(&service.admin, method, path, headers, body).await;
        assert_eq!(reply.status, status, "{method} {path} {reply:?}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{method} {path} {status}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{method} {path} {status}");
        assert_eq!(reply.header("cache-control"), "no-store", "{method} {path} {status}");
    }
    let other = "GET /users HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let reply = http::raw(&service.admin, other).await;
    assert_eq!((reply.status, reply.header("x-content-type-options")), (421, "nosniff"));
    assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
}
