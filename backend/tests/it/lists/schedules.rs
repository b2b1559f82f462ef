//! Schedules, in the form of the author's later service.

use holodule_backend::model::Holodule;
use serde_json::json;

use super::{on_both_engines, store_streamers, stream};
use crate::service::Service;

async fn found(service: &Service, query: &str) -> Vec<String> {
    let reply = service.get(&format!("/schedules?{query}")).await;
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    super::names(&reply.json()["schedules"])
}

async fn schedules_have_the_form_of_the_later_service(service: &Service) {
    store_streamers(service).await;
    let whole = Holodule {
        url: Some("https://www.youtube.com/watch?v=b__________".into()),
        description: Some("d".into()),
        published_at: Some(json!("2020-12-01T03:00:00Z")),
        channel_id: Some(json!("UC")),
        channel_title: Some(json!("ct")),
        tags: Some(json!(["x"])),
        ..stream("HL0001", "20201209 230000", "b")
    };
    service.holodules([stream("HLEN01", "20201208 000000", "a"), whole]).await;
    let body = service.get("/schedules").await.json();
    let ids: Vec<_> = (0..2).map(|at| body["schedules"][at]["id"].as_str().unwrap().to_owned()).collect();
    let first = format!(
        r#"{{"id":"{}","code":"HL0001","video_id":"b__________","streaming_at":"2020-12-09T23:00:00","name":"name of HL0001","title":"title of b","url":"https://www.youtube.com/watch?v=b__________","description":"d","published_at":"2020-12-01T03:00:00","channel_id":"UC","channel_title":"ct","tags":["x"],"key":"HL0001_20201209_230000"}}"#,
        ids[0]
    );
    let second = format!(
        r#"{{"id":"{}","code":"HLEN01","video_id":"a__________","streaming_at":"2020-12-08T00:00:00","name":"name of HLEN01","title":"title of a","url":null,"description":null,"published_at":null,"channel_id":null,"channel_title":null,"tags":[],"key":"HLEN01_20201208_000000"}}"#,
        ids[1]
    );
    assert_eq!(service.get("/schedules").await.body, format!("{{\"schedules\":[{first},{second}]}}\n"));
    assert_eq!(service.get(&format!("/schedules/{}", ids[0])).await.body, format!("{first}\n"));
    let missing = service.get("/schedules/x%2Fy").await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-store"));
    assert_eq!(missing.body, "{\"message\":\"Schedule not found\",\"identifier\":\"x/y\"}\n");
}

async fn parameters_select_as_in_the_later_service(service: &Service) {
    store_streamers(service).await;
    service
        .holodules([
            stream("HL0001", "20201208 235959", "a"),
            stream("HL0002", "20201209 000000", "b"),
            Holodule { title: Some("ＡＢ (.*)".into()), ..stream("HLEN01", "20201209 235959", "c") },
            stream("HLEN01", "20201210 000000", "d"),
        ])
        .await;
    for (query, expected) in [
        ("", &["d", "c", "b", "a"][..]),
        ("sdate=2020-12-09&edate=2020-12-09", &["c", "b"]),
        ("sdate=2020-12-10", &["d"]),
        ("edate=2020-12-08", &["a"]),
        ("sdate=2020-12-10&edate=2020-12-09", &[]),
        ("code=HL0002", &["b"]),
        ("group=b", &["d", "c"]),
        ("group=b&code=HL0002", &["d", "c", "b"]),
        ("group=none", &["d", "c", "b", "a"]),
        ("group=none&code=HL0001", &["a"]),
        ("code=unknown", &[]),
        ("keyword=ab+%28.%2A", &["c"]),
        ("keyword=.%2A", &["c"]),
        ("code=&group=&keyword=&page=1", &["d", "c", "b", "a"]),
    ] {
        assert_eq!(found(service, query).await, expected, "{query}");
    }
    for (bad, parameter) in [
        ("sdate=2020-12-32", "sdate"),
        ("sdate=20201209", "sdate"),
        ("sdate=2020-12-09&edate=x", "edate"),
        ("keyword=%00", "keyword"),
        ("keyword=%FF", "keyword"),
    ] {
        let reply = service.get(&format!("/schedules?{bad}")).await;
        let error = reply.json();
        assert_eq!((reply.status, &error["identifier"]), (400, &json!(parameter)), "{bad}");
        assert!(error["message"].as_str().unwrap().starts_with(parameter), "{error}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

on_both_engines! {
    schedules_have_the_form_of_the_later_service,
    parameters_select_as_in_the_later_service,
}
