//! Routes of certain hosts.

use super::{Routed, cacheable};
use crate::program::{check, folder};
use crate::support::backend::Seen;
use crate::support::get;

const ROUTES: &str = "[{ name = 'a', hosts = ['A.example.'], path = '/{*rest}', methods = ['GET'], shared = true }, \
     { name = 'b', hosts = ['b.example', 'localhost'], path = '/{*rest}', methods = ['PUT'] }, \
     { name = 'every', path = '/x', methods = ['GET'], shared = true }]";

fn named(seen: &Seen) -> Vec<crate::support::backend::Step> {
    cacheable(&seen.values("x-forwarded-host").join("|"))
}

#[tokio::test]
async fn a_route_with_hosts_is_for_requests_of_these_hosts_only() {
    let hosts = ("HOSTS", "['a.example', 'b.example', 'c.example']");
    let routed = Routed::start(ROUTES, &[hosts], named).await;
    for (host, path, status, allow) in [
        ("a.example", "/x", 200, ""),
        ("A.EXAMPLE:8443", "/x", 200, ""),
        ("a.example", "/y", 200, ""),
        ("b.example", "/x", 405, "PUT"),
        ("b.example", "/y", 405, "PUT"),
        ("localhost", "/y", 405, "PUT"),
        ("c.example", "/x", 200, ""),
        ("c.example", "/y", 404, ""),
        ("d.example", "/x", 421, ""),
    ] {
        let answer = routed.gateway.exchange(get(path, "").replace("Host: localhost", &format!("Host: {host}"))).await;
        assert_eq!(answer.status, status, "{host}{path}: {answer:?}");
        assert!(status != 405 || answer.value("allow") == allow, "{host}{path}: {answer:?}");
    }
}

/// RFC 9110, section 7.4: the certificate of the connection decides for which hosts a request may be.
#[tokio::test]
async fn the_hosts_of_a_route_are_not_accepted_for_its_sake() {
    let routed = Routed::start(ROUTES, &[], named).await;
    let answer = routed.gateway.exchange(get("/x", "").replace("Host: localhost", "Host: a.example")).await;
    assert_eq!(answer.status, 421);
    let folder = folder();
    let append = |text: &str| {
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + text).unwrap();
    };
    append("[[route]]\nhosts = ['localhost', 'a.example']\nmethods = ['GET']\npath = '/a'\n");
    let output = check(folder.path(), &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("warning: route[0].hosts: requests for \"a.example\" get 421"), "{printed}");
    assert!(!printed.contains("\"localhost\" get"), "{printed}");
    let output = check(folder.path(), &[("HOSTS", "['a.example']")]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("get 421"));
    append(
        "[[route]]\nname = 'b'\nhosts = ['https://a.example', 'a:1', '*.a', 'x', 'X.']\nmethods = ['GET']\npath = '/b'\n",
    );
    let printed = String::from_utf8(check(folder.path(), &[]).stderr).unwrap();
    assert_eq!(printed.matches("route[1].hosts: ").count(), 4, "{printed}");
}
