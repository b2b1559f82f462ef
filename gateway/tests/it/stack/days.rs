//! ops/WIRE.md, "GET, HEAD /holodules/{yyyymmdd}": every row, through both programs, with both stores.

use serde_json::json;

use super::Stack;
use super::mongod::Server;

#[test]
fn every_row_of_the_contract_on_the_embedded_store() {
    let stack = Stack::embedded();
    stack.load();
    assert_commands_of_the_original(&stack);
    assert_rows(&stack);
}

#[test]
fn every_row_of_the_contract_on_mongodb() {
    let stack = Stack::on_store(&Server::shared().fresh_url());
    stack.load();
    assert_commands_of_the_original(&stack);
    assert_rows(&stack);
}

/// The two commands in the original's README, over HTTP/1.1 and HTTP/2.
fn assert_commands_of_the_original(stack: &Stack) {
    for version in ["--http1.1", "--http2"] {
        let login = r#"{"username":"user01","password":"password01"}"#;
        let login = stack.curl(&[version, "-X", "POST", "-H", "Content-Type: application/json", "-d", login], "/auth");
        assert_eq!(login.status, 200, "{login:?}");
        let authorization = format!("Authorization: JWT {}", login.json()["access_token"].as_str().unwrap());
        let mut bodies = Vec::new();
        for path in ["/Holodules/20201209", "/holodules/20201209", "/holoapi/Holodules/20201209"] {
            let answer = stack.curl(&[version, "-H", &authorization], path);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.value("content-type"), "application/json");
            assert_eq!(answer.value("cache-control"), "private, no-cache");
            assert!(answer.values("server").is_empty());
            bodies.push(answer.body);
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        let day: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
        assert_eq!(day["result"], 17);
        assert_eq!(day["holodules"].as_array().unwrap().len(), 17);
        assert_eq!(day["holodules"][0]["key"], "HL0503_20201209_230000");
        assert!(bodies[0].starts_with(r#"{"result":17,"holodules":[{"key":"HL0503_20201209_230000","video_id":""#));
        assert!(bodies[0].ends_with("}]}\n"));
    }
}

fn assert_rows(stack: &Stack) {
    let token = stack.token("user01", "password01");
    let authorization = format!("Authorization: JWT {token}");
    let day = stack.get("/holodules/20201209", &token);
    let times: Vec<_> =
        day.json()["holodules"].as_array().unwrap().iter().map(|one| one["datetime"].to_string()).collect();
    assert!(times.is_sorted_by(|first, second| first >= second), "newest first: {times:?}");

    // A valid day without holodules.
    for path in ["/holodules/20201213", "/Holodules/20201213", "/holodules/20240229"] {
        stack.get(path, &token).assert_json(404, r#"{"error":"Not found"}"#);
    }
    // Not eight ASCII digits, or not a date.
    for day in [
        "2020120",
        "202012090",
        "2020-12-09",
        "2020120a",
        "20201301",
        "20210229",
        "20200631",
        "%EF%BC%92%EF%BC%90%EF%BC%92%EF%BC%9020201",
        ".*",
        "20201209$",
        "^2020",
    ] {
        let answer = stack.curl(&["--path-as-is", "-H", &authorization], &format!("/holodules/{day}"));
        assert_eq!(answer.status, 400, "{day}: {answer:?}");
        answer.assert_json(400, r#"{"error":"Bad Request"}"#);
    }
    // Another method, with a token.
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = stack.curl(&["-X", method, "-H", &authorization], "/holodules/20201209");
        answer.assert_json(405, r#"{"error":"Method Not Allowed"}"#);
        assert_eq!(answer.value("allow"), "GET, HEAD");
    }
    // Any other path, with a token, including the paths of the admin listener.
    for path in ["/", "/holodules/", "/holodules/20201209/x", "/users", "/metrics", "/healthz", "/credentials/verify"] {
        stack.get(path, &token).assert_json(404, r#"{"error":"Not found"}"#);
    }
    // HEAD and conditional requests.
    let head = stack.curl(&["--head", "-H", &authorization], "/holodules/20201209");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.value("content-length"), day.body.len().to_string());
    let etag = day.value("etag");
    assert_eq!(head.value("etag"), etag);
    let same = stack.curl(&["-H", &authorization, "-H", &format!("If-None-Match: {etag}")], "/holodules/20201209");
    assert_eq!((same.status, same.body.as_str(), same.value("etag")), (304, "", etag));
    let other = stack.curl(&["-H", &authorization, "-H", "If-None-Match: \"other\""], "/holodules/20201209");
    assert_eq!((other.status, other.body), (200, day.body));
    // Without a token, every path gets the same 401.
    for path in ["/holodules/20201209", "/holodules/x", "/nothing"] {
        let answer = stack.curl(&[], path);
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["error"], json!("Authorization Required"));
    }
}
