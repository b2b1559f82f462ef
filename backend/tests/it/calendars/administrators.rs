//! Calendar feeds on the admin listener.

use serde_json::{Value, json};

use super::Stage;
use crate::http;

pub(super) async fn an_administrator_lists_and_revokes_the_feeds_of_a_user(stage: &Stage) {
    stage.service.user("user/02", "password02").await;
    let (first, second) = (stage.create(&json!({ "label": "<推し>" })).await, stage.create(&json!({})).await);
    let others = stage.send("POST", "/calendar", Some("user%2F02"), r#"{"code":["HL0001"]}"#).await.json();
    let list = async |name: &str| stage.service.admin("GET", &format!("/users/{name}/calendar"), "").await;
    let listed = list("user01").await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.json(), stage.send("GET", "/calendar", Some("user01"), "").await.json());
    for feed in [&first, &second] {
        assert!(listed.body.contains(feed["id"].as_str().unwrap()));
        assert!(!listed.body.contains(feed["key"].as_str().unwrap()), "a key");
    }
    assert_eq!(list("user%2F02").await.json()["calendars"][0]["filter"]["code"], json!(["HL0001"]));
    assert_eq!(list("user03").await.status, 404);

    let path = |name: &str, feed: &Value| format!("/users/{name}/calendar/{}", feed["id"].as_str().unwrap());
    assert_eq!(stage.service.admin("DELETE", &path("user01", &others), "").await.status, 404);
    let foreign = [("Content-Type", "application/json"), ("Sec-Fetch-Site", "cross-site")];
    for (headers, status) in [(&[][..], 415), (&[("Content-Type", "text/plain")], 415), (&foreign, 403)] {
        let refused = http::send(&stage.service.admin, "DELETE", &path("user01", &first), headers, "").await;
        assert_eq!(refused.status, status, "{headers:?}");
    }
    let rebound = format!(
        "DELETE {} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
        path("user01", &first)
    );
    assert_eq!(http::raw(&stage.service.admin, &rebound).await.status, 421);
    assert_eq!(stage.fetch(&first).await.status, 200);
    for expected in [204, 404] {
        assert_eq!(stage.service.admin("DELETE", &path("user01", &first), "").await.status, expected);
    }
    assert_eq!((stage.fetch(&first).await.status, stage.fetch(&second).await.status), (404, 200));
    assert_eq!(stage.fetch(&others).await.status, 200);
    assert_eq!(list("user01").await.json()["calendars"].as_array().unwrap().len(), 1);
    let series = "backend_requests_total{listener=\"admin\",method=\"DELETE\",route=\"/users/{username}/calendar/{id}\",\
                  status_class=\"2xx\"}";
    stage.service.until(series, 1.0).await;
    for (method, path, allowed) in
        [("POST", "/users/user01/calendar", "GET, HEAD"), ("PUT", "/users/user01/calendar/0", "DELETE")]
    {
        let refused = stage.service.admin(method, path, "").await;
        assert_eq!((refused.status, refused.header("allow")), (405, allowed));
    }
}
