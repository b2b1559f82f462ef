//! Creates the indexes in the background, and verifies them from then on.
//!
//! A collection that is dropped or restored while the program runs has no indexes. So they are verified after each new
//! connection to a server, when a change stream reports that a collection is gone, and at a fixed interval, together
//! with the count of [`undated`] documents.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::IndexOptions;
use tokio::sync::{Notify, watch};

use super::undated::{self, Logged};
use super::{StoreError, error};

/// The first retry delay; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The maximum retry delay.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Timeout for building an index. The server continues to build it after that.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
/// Timeout for listing the indexes of a collection.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How long the echo of an ended process is stored.
const ECHO_TTL: Duration = Duration::from_secs(3600);
/// The maximum number of duplicates in a log line.
const NAMED_DUPLICATES: usize = 20;
/// The server's code for an index with the same fields and another name.
const INDEX_OPTIONS_CONFLICT: i32 = 85;
/// The server's code for a collection that does not exist.
const NO_COLLECTION: i32 = 26;

/// The collections with indexes.
pub(super) struct Collections {
    pub(super) holodules: Collection<RawDocumentBuf>,
    pub(super) schedules: Collection<RawDocumentBuf>,
    pub(super) streamers: Collection<RawDocumentBuf>,
    pub(super) users: Collection<RawDocumentBuf>,
    pub(super) password_states: Collection<RawDocumentBuf>,
    pub(super) logouts: Collection<RawDocumentBuf>,
    pub(super) calendars: Collection<RawDocumentBuf>,
    pub(super) echoes: Collection<RawDocumentBuf>,
}

/// Results for the metrics.
#[derive(Debug, Default)]
pub(super) struct IndexCounts {
    pub(super) duplicate_video_ids: AtomicU64,
    pub(super) undated: AtomicU64,
    /// Indexes that were created again after the first time.
    pub(super) restored: AtomicU64,
}

/// The background task.
pub(super) struct Maintenance {
    /// The URL without user and password, for the log.
    pub(super) server: String,
    pub(super) collections: Collections,
    pub(super) counts: Arc<IndexCounts>,
    /// Requests a verification before the interval has passed.
    pub(super) again: Arc<Notify>,
    pub(super) interval: Duration,
}

impl Maintenance {
    /// Creates the indexes, with retries while the server is unavailable. Afterwards, even if some cannot be created,
    /// `settled` is true, and they are verified periodically.
    pub(super) async fn run(self, settled: watch::Sender<bool>) {
        let mut pause = FIRST_PAUSE;
        let mut logged = Logged::default();
        loop {
            let again = *settled.borrow();
            match self.verify(again, &settled).await {
                Ok(()) => {}
                Err(StoreError::Unavailable(reason)) => {
                    let server = &self.server;
                    tracing::error!(%reason, server, retry_s = pause.as_secs_f64(), "MongoDB is unavailable; retrying");
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    continue;
                }
                Err(reason) => tracing::error!(%reason, server = self.server, "some indexes could not be created"),
            }
            pause = FIRST_PAUSE;
            settled.send_replace(true);
            match undated::count(&self.server, &self.collections.holodules, &mut logged).await {
                Ok(undated) => self.counts.undated.store(undated, Ordering::Relaxed),
                Err(reason) => tracing::warn!(%reason, "holodules not listed under any day could not be counted"),
            }
            if tokio::time::timeout(self.interval, self.again.notified()).await.is_ok() {
                // Servers of a set reconnect one by one.
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }

    async fn verify(&self, again: bool, settled: &watch::Sender<bool>) -> Result<(), StoreError> {
        let before = if again { self.names().await? } else { BTreeSet::new() };
        try_create(&self.server, &self.collections, &self.counts.duplicate_video_ids).await?;
        // Writes do not wait for the rest, which takes minutes in a large collection.
        settled.send_replace(true);
        create_for_lists(&self.server, &self.collections).await?;
        if again {
            let restored: Vec<String> = self.names().await?.difference(&before).cloned().collect();
            if !restored.is_empty() {
                self.counts.restored.fetch_add(restored.len() as u64, Ordering::Relaxed);
                tracing::warn!(server = self.server, ?restored, "missing indexes were created again");
            }
        }
        Ok(())
    }

    /// Existing indexes as `collection.index`, except those of `_id`.
    async fn names(&self) -> Result<BTreeSet<String>, StoreError> {
        let Collections { holodules, schedules, streamers, users, password_states, logouts, calendars, echoes } =
            &self.collections;
        let mut names = BTreeSet::new();
        for collection in [holodules, schedules, streamers, users, password_states, logouts, calendars, echoes] {
            let listed = async { collection.list_index_names().await };
            let listed = match tokio::time::timeout(LIST_LIMIT, listed).await {
                Ok(Ok(listed)) => listed,
                Ok(Err(error)) if has_code(&error, NO_COLLECTION) => Vec::new(),
                Ok(Err(error)) => return Err(error::store_error(&self.server, &error)),
                Err(_) => return Err(StoreError::Unavailable("the indexes cannot be listed".to_owned())),
            };
            // The server creates that one itself.
            let ours = listed.into_iter().filter(|name| name != "_id_");
            names.extend(ours.map(|name| format!("{}.{name}", collection.name())));
        }
        Ok(names)
    }
}

async fn try_create(server: &str, collections: &Collections, duplicates: &AtomicU64) -> Result<(), StoreError> {
    let Collections { holodules, users, password_states, logouts, calendars, echoes, .. } = collections;
    create(server, holodules, index("datetime_key_id", doc! { "datetime": 1, "key": 1, "_id": 1 }, None)).await?;
    create(server, holodules, index("key", doc! { "key": 1 }, None)).await?;
    create(server, users, index("username", doc! { "username": 1 }, None)).await?;
    create(server, logouts, index("identity", doc! { "identity": 1, "expires_at": 1 }, None)).await?;
    create(server, logouts, expiry("expires_at", Duration::ZERO)).await?;
    create(server, password_states, expiry("forget_at", Duration::ZERO)).await?;
    let unique = index("key_hash", doc! { "key_hash": 1 }, Some(doc! { "key_hash": { "$gt": "" } }));
    create(server, calendars, unique).await?;
    create(server, calendars, index("owner", doc! { "owner": 1, "created_at": 1 }, None)).await?;
    create(server, echoes, expiry("at", ECHO_TTL)).await?;

    let unique = index("video_id_unique", doc! { "video_id": 1 }, Some(doc! { "video_id": { "$gt": "" } }));
    if create(server, holodules, unique).await? {
        duplicates.store(0, Ordering::Relaxed);
    } else {
        let count = count_duplicates(server, holodules, "video_id").await?;
        duplicates.store(count, Ordering::Relaxed);
        create(server, holodules, index("video_id", doc! { "video_id": 1 }, None)).await?;
    }
    // Concurrent uploads must not store a holodule without a video twice. Documents with neither name are not
    // restricted, because the original writes them.
    let without_video = doc! { "video_id": "", "key": { "$gt": "" } };
    let unique = index("key_unique_without_video", doc! { "key": 1 }, Some(without_video));
    if !create(server, holodules, unique).await? {
        tracing::warn!("several documents without a video share a key; their unique index was not created");
    }
    Ok(())
}

/// Creates the indexes for lists: an equality, then the order, so that a page needs no sort.
async fn create_for_lists(server: &str, collections: &Collections) -> Result<(), StoreError> {
    let Collections { holodules, schedules, streamers, .. } = collections;
    for (name, first) in [("code_datetime", "code"), ("name_datetime", "name"), ("tags_datetime", "tags")] {
        let keys = doc! { first: 1, "datetime": 1, "key": 1, "_id": 1 };
        create(server, holodules, index(name, keys, None)).await?;
    }
    create(server, schedules, index("streaming_at", doc! { "streaming_at": 1, "_id": 1 }, None)).await?;
    let by_code = doc! { "code": 1, "streaming_at": 1, "_id": 1 };
    create(server, schedules, index("code_streaming_at", by_code, None)).await?;
    create(server, schedules, index("video_id", doc! { "video_id": 1 }, None)).await?;
    create(server, streamers, index("code", doc! { "code": 1 }, None)).await?;
    Ok(())
}

/// An index by which the server removes documents at the time `after` the value of `field`. It checks once a minute, so
/// that an existing document may have expired.
fn expiry(field: &str, after: Duration) -> IndexModel {
    let options = IndexOptions::builder().name(field.to_owned()).expire_after(after).build();
    IndexModel::builder().keys(doc! { field: 1 }).options(options).build()
}

/// An index over all documents, or a unique one over those matching `partial`.
fn index(name: &str, keys: Document, partial: Option<Document>) -> IndexModel {
    let unique = partial.is_some().then_some(true);
    let options = IndexOptions::builder().name(name.to_owned()).unique(unique);
    IndexModel::builder().keys(keys).options(options.partial_filter_expression(partial).build()).build()
}

/// Creates an index; `false` if existing documents violate it.
async fn create(server: &str, collection: &Collection<RawDocumentBuf>, index: IndexModel) -> Result<bool, StoreError> {
    match tokio::time::timeout(BUILD_LIMIT, async { collection.create_index(index).await }).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) if error::is_duplicate_key(&error) => Ok(false),
        Ok(Err(error)) if has_code(&error, INDEX_OPTIONS_CONFLICT) => {
            tracing::debug!("an index of the same fields exists under another name");
            Ok(true)
        }
        Ok(Err(error)) => Err(error::store_error(server, &error)),
        Err(_) => Err(StoreError::Unavailable("an index is still being built".to_owned())),
    }
}

fn has_code(error: &Error, code: i32) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == code)
}

/// Counts the non-empty values of `field` in more than one document, and logs some.
async fn count_duplicates(
    server: &str,
    collection: &Collection<RawDocumentBuf>,
    field: &str,
) -> Result<u64, StoreError> {
    let pipeline = [
        doc! { "$match": { field: { "$gt": "" } } },
        doc! { "$group": { "_id": format!("${field}"), "documents": { "$sum": 1 } } },
        doc! { "$match": { "documents": { "$gt": 1 } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let counted = async {
        let mut cursor = collection.aggregate(pipeline).allow_disk_use(true).await?;
        let (mut count, mut named) = (0_u64, Vec::new());
        while let Some(group) = cursor.try_next().await? {
            count = count.saturating_add(1);
            if named.len() < NAMED_DUPLICATES
                && let Some(Bson::String(value)) = group.get("_id")
            {
                named.push(value.clone());
            }
        }
        Ok((count, named))
    };
    let (count, named) = match tokio::time::timeout(BUILD_LIMIT, counted).await {
        Ok(counted) => counted.map_err(|error: Error| error::store_error(server, &error))?,
        Err(_) => return Err(StoreError::Unavailable("duplicates are still being counted".to_owned())),
    };
    tracing::warn!(field, count, ?named, "duplicate values: the unique index was not created");
    Ok(count)
}
