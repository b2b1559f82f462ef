//! `GET /now`.

use serde_json::json;

use super::{names, on_both_engines, store_streamers, stream};
use crate::service::Service;

async fn now_has_what_is_live_and_what_is_next(service: &Service) {
    store_streamers(service).await;
    service
        .holodules([
            stream("HL0001", "20201209 210000", "past"),
            stream("HL0001", "20201209 210001", "live1"),
            stream("HLEN01", "20201209 230000", "live2"),
            stream("HLEN01", "20201209 230001", "next1"),
            stream("HL0001", "20201211 230000", "next2"),
            stream("HL0001", "20201211 230001", "later"),
        ])
        .await;
    let reply = service.get("/now").await;
    let body = reply.json();
    assert_eq!(reply.header("cache-control"), "public, max-age=0, s-maxage=2");
    assert_eq!(body["now"], json!("2020-12-09T23:00:00+09:00"));
    assert_eq!(
        (names(&body["live"]), names(&body["upcoming"])),
        (vec!["live1".into(), "live2".into()], vec!["next1".into(), "next2".into()])
    );
    assert_eq!(body["live"][0]["starts_at"], json!("2020-12-09T21:00:01+09:00"));
    let body = service.get("/now?group=b").await.json();
    assert_eq!((names(&body["live"]), names(&body["upcoming"])), (vec!["live2".to_owned()], vec!["next1".to_owned()]));
    let reply = service.get("/now?code=HL0002").await;
    assert_eq!(reply.body, "{\"now\":\"2020-12-09T23:00:00+09:00\",\"live\":[],\"upcoming\":[]}\n");
}

on_both_engines! { now_has_what_is_live_and_what_is_next }
