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
