//! The contract of the store, on both engines.

mod accounts;
mod calendars;
mod closing;
mod conditional;
pub(crate) mod disk;
mod embedded;
mod holodules;
pub(crate) mod indexes;
mod lists;
mod lists_on_mongo;
mod lookup;
mod maintenance;
mod mongo;
mod roles;
mod schedules;
mod schedules_on_mongo;
mod searches_on_mongo;
mod streamers;
mod users;

use std::time::Duration;

use holodule_backend::model::{Day, Holodule, ValidHolodule};
use holodule_backend::store::{Settings, Store};
use tempfile::TempDir;

use crate::mongod::Server;

/// A fixed time.
const NOW: i64 = 1_800_000_000;

/// An empty store for one test.
struct Stage {
    store: Store,
    _folder: Option<TempDir>,
}

impl Stage {
    async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("embedded:{}", folder.path().join("store.redb").display());
        Self { store: Store::open(&settings(&url)).await.unwrap(), _folder: Some(folder) }
    }

    async fn mongo() -> Self {
        let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
        Self { store: Store::open(&settings(&url)).await.unwrap(), _folder: None }
    }
}

/// Defines a test on both engines for each function, which takes a [`Store`].
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::contract::Stage::embedded().await.store).await;
            })*
        }
        mod on_mongo {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::contract::Stage::mongo().await.store).await;
            })*
        }
    };
}
use on_both_engines;

fn settings(url: &str) -> Settings {
    Settings {
        url: url.parse().unwrap(),
        operation_timeout: Duration::from_secs(20),
        max_connections: 20,
        text_cache: 1 << 20,
    }
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

/// A holodule with this key, video and time, and text in every field.
fn holodule(key: &str, video_id: &str, datetime: &str) -> Holodule {
    Holodule {
        key: Some(key.into()),
        video_id: Some(video_id.into()),
        datetime: Some(datetime.into()),
        name: Some("尾丸ポルカ".into()),
        title: Some("t".into()),
        url: Some("https://www.youtube.com/".into()),
        description: Some("d".into()),
        ..Holodule::default()
    }
}

fn entry(key: &str, video_id: &str, datetime: &str) -> ValidHolodule {
    ValidHolodule::new(holodule(key, video_id, datetime)).unwrap()
}

/// The videos of a day in the order of the response.
async fn videos(store: &Store, day: &str) -> Vec<String> {
    let listing = store.day(self::day(day)).await.unwrap();
    assert_eq!(listing.unreadable, Vec::<String>::new());
    listing.holodules.into_iter().map(|holodule| holodule.video_id.unwrap_or_default()).collect()
}
