//! Streamers: import, list, and the form of the author's later service.

use serde_json::json;

use super::{on_both_engines, store_streamers, stream};
use crate::http;
use crate::service::Service;

const CSV: &[(&str, &str)] = &[("Content-Type", "text/csv; charset=utf-8")];

async fn upload(service: &Service, file: &str) -> http::Reply {
    http::send(&service.admin, "POST", "/streamers", CSV, file).await
}

async fn streamers_have_the_form_of_the_later_service(service: &Service) {
    let file =
        "\u{feff}code,name,group,affiliations,is_retired\r\nHL0002,ロボ子さん,a,x;y,false\r\nHL0001,ときのそら,b,,\r\n";
    let reply = upload(service, file).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, "{\"read\":2,\"inserted\":2,\"updated\":0,\"unchanged\":0}\n")
    );
    let body = service.get("/streamers").await.json();
    let ids: Vec<_> = (0..2).map(|at| body["streamers"][at]["id"].as_str().unwrap().to_owned()).collect();
    let first = format!(
        r#"{{"id":"{}","code":"HL0001","name":"ときのそら","group":"b","affiliations":null,"image_name":null,"channel_id":null,"is_retired":false}}"#,
        ids[0]
    );
    let second = format!(
        r#"{{"id":"{}","code":"HL0002","name":"ロボ子さん","group":"a","affiliations":["x","y"],"image_name":null,"channel_id":null,"is_retired":false}}"#,
        ids[1]
    );
    for path in ["/streamers", "/streamers?group=", "/streamers?unknown=1"] {
        assert_eq!(service.get(path).await.body, format!("{{\"streamers\":[{first},{second}]}}\n"), "{path}");
    }
    assert_eq!(service.get("/streamers?group=a").await.body, format!("{{\"streamers\":[{second}]}}\n"));
    assert_eq!(service.get("/streamers?group=c").await.body, "{\"streamers\":[]}\n");
    for id in [ids[0].as_str(), "HL0001"] {
        assert_eq!(service.get(&format!("/streamers/{id}")).await.body, format!("{first}\n"));
    }
    let missing = service.get("/streamers/a%20b").await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-store"));
    assert_eq!(missing.body, "{\"message\":\"Streamer not found\",\"identifier\":\"a b\"}\n");
    assert_eq!(service.get("/streamers?group=%FF").await.body, "{\"error\":\"Bad Request\"}\n");
    let listed = http::send(&service.admin, "GET", "/streamers", &[], "").await;
    let stored = listed.json();
    assert_eq!(stored["streamers"][0]["is_retired"], json!(null), "administrators see what is stored");
    assert_eq!(stored["streamers"][1], body["streamers"][1]);
}

async fn an_import_changes_the_groups_of_lists_at_once(service: &Service) {
    store_streamers(service).await;
    service.holodules([stream("HL0001", "20201209 210000", "a")]).await;
    assert_eq!(service.get("/holodules").await.json()["holodules"][0]["group"], json!("a"));
    let reply = upload(service, "code,name,group\nHL0001,,c\nHL0002,,a\n").await;
    assert_eq!(reply.json(), json!({ "read": 2, "inserted": 0, "updated": 1, "unchanged": 1 }));
    assert_eq!(service.get("/holodules").await.json()["holodules"][0]["group"], json!("c"));
    assert_eq!(service.get("/holodules?group=c").await.json()["total"], json!(1));
    assert_eq!(
        service.get("/streamers/HL0001").await.json()["name"],
        json!("ときのそら"),
        "an empty cell changes nothing"
    );
}

on_both_engines! {
    streamers_have_the_form_of_the_later_service,
    an_import_changes_the_groups_of_lists_at_once,
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let service = Service::start().await;
    let refused = upload(&service, "code,name,group\nHL0001,a,b\nX,a,b\n").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["description"], json!("row 2: code: must be a streamer's code, such as HL0503"));
    assert!(service.store.streamers().await.unwrap().is_empty());
    let json = http::send(&service.admin, "POST", "/streamers", &[("Content-Type", "application/json")], "[]").await;
    assert_eq!(json.status, 415);
    let long = format!("code,name,group\n{}", "\n".repeat(4 << 20));
    assert_eq!(upload(&service, &long).await.status, 413);
}

#[tokio::test]
async fn a_cross_site_import_is_refused() {
    let service = Service::start().await;
    for headers in [
        &[("Content-Type", "text/plain")][..],
        &[("Content-Type", "multipart/form-data; boundary=x")],
        &[("Content-Type", "text/csv"), ("Sec-Fetch-Site", "cross-site")],
    ] {
        let reply = http::send(&service.admin, "POST", "/streamers", headers, "code,name,group\nHL0001,a,b\n").await;
        assert!([403, 415].contains(&reply.status), "{headers:?}: {}", reply.status);
    }
    let reply = http::send(&service.admin, "DELETE", "/streamers", CSV, "").await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD, POST"));
    assert!(service.store.streamers().await.unwrap().is_empty());
    let posted = http::send(&service.api, "POST", "/streamers", CSV, "code,name,group\n").await;
    assert_eq!((posted.status, posted.body.as_str()), (405, "{\"error\":\"Method Not Allowed\"}\n"));
}
