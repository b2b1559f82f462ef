//! Lists of holodules, streamers and schedules, on both engines.

mod api;
mod import;
mod now;
mod pages;
mod schedules;

use std::time::Duration;

use holodule_backend::model::{Holodule, Streamer};
use holodule_backend::store::{Settings, Store};

use crate::mongod::Server;
use crate::service::{Service, Setup};

/// 2020-12-09 23:00:00 in Japan.
const NOW: i64 = 1_607_522_400;

/// A setup whose clock always shows [`NOW`].
fn setup() -> Setup {
    Setup { clock: Some(|| NOW), ..Setup::default() }
}

async fn on_embedded(setup: Setup) -> Service {
    Service::with(setup).await
}

async fn on_mongo(setup: Setup) -> Service {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let settings = Settings {
        url: url.parse().unwrap(),
        operation_timeout: Duration::from_secs(20),
        max_connections: 20,
        text_cache: 1 << 20,
    };
    Service::over(Store::open(&settings).await.unwrap(), setup).await
}

/// Defines a test on both engines for each function, which takes a [`Service`] with the setup above.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::lists::on_embedded(crate::lists::setup()).await).await;
            })*
        }
        mod on_mongo {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::lists::on_mongo(crate::lists::setup()).await).await;
            })*
        }
    };
}
use on_both_engines;

/// Stores three streamers: two of group a and one of group b.
async fn store_streamers(service: &Service) {
    let streamer = |code: &str, name: &str, group: &str, channel: Option<&str>| Streamer {
        code: code.into(),
        name: Some(name.into()),
        group: Some(group.into()),
        channel_id: channel.map(Into::into),
        ..Streamer::default()
    };
    let streamers = vec![
        streamer("HL0001", "ときのそら", "a", Some("UC0001")),
        streamer("HL0002", "ロボ子さん", "a", None),
        streamer("HLEN01", "森カリオペ", "b", None),
    ];
    service.store.store_streamers(streamers).await.unwrap();
}

/// A holodule of `code` at `datetime` with the video `video` and 11 - `video.len()` underscores.
fn stream(code: &str, datetime: &str, video: &str) -> Holodule {
    Holodule {
        key: Some(format!("{code}_{}", datetime.replace(' ', "_"))),
        video_id: Some(format!("{video:_<11}")),
        datetime: Some(datetime.to_owned()),
        name: Some(format!("name of {code}")),
        title: Some(format!("title of {video}")),
        ..Holodule::default()
    }
}

/// The videos of a list, in its order, without underscores.
async fn videos(service: &Service, path: &str) -> Vec<String> {
    let reply = service.get(path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    let body = reply.json();
    names(&body["holodules"])
}

/// The videos of entries.
fn names(entries: &serde_json::Value) -> Vec<String> {
    let video = |entry: &serde_json::Value| entry["video_id"].as_str().unwrap().trim_end_matches('_').to_owned();
    entries.as_array().unwrap().iter().map(video).collect()
}
