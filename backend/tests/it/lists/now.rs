//! `GET /now`.

use holodule_backend::model::{Holodule, Saved};
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

async fn a_datetime_that_is_no_time_has_the_state_of_its_text_and_is_not_live(service: &Service) {
    // The clock is at 20201209 230000: the last one is between two times of live streams.
    let texts = ["20201208 250000", "20201210 250000", "20201210", "20201209 225959", "20201209 225960"];
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    for (number, datetime) in texts.into_iter().enumerate() {
        let holodule = Holodule {
            video_id: Some(format!("defect{number}____")),
            datetime: Some(datetime.to_owned()),
            ..Holodule::default()
        };
        sender.send(Ok(Saved::Holodule(Box::new(holodule)))).await.unwrap();
    }
    drop(sender);
    service.store.restore(receiver, true, 0).await.unwrap();
    let of = async |status: &str| {
        let path = format!("/holodules?from=20201201&to=20201231&status={status}");
        let body = service.get(&path).await.json();
        let found = names(&body["holodules"]);
        assert_eq!(body["total"], json!(found.len()), "{status}");
        found
    };
    assert_eq!(of("past").await, ["defect0"]);
    assert_eq!(of("live").await, ["defect3", "defect4"]);
    assert_eq!(of("upcoming").await, ["defect2", "defect1"]);
    let now = service.get("/now").await.json();
    assert_eq!((names(&now["live"]), &now["upcoming"]), (vec!["defect3".to_owned()], &json!([])));
}

on_both_engines! {
    now_has_what_is_live_and_what_is_next,
    a_datetime_that_is_no_time_has_the_state_of_its_text_and_is_not_live,
}
