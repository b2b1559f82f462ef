//! The production engine: MongoDB, by its official driver, which appears nowhere else.
//!
//! Writes are acknowledged by a majority and journaled. Holodules are read from the
//! primary, or from a secondary while there is none, so that a primary's loss costs no
//! read; users, and what decides over their tokens, from the primary alone, and only what a
//! majority holds. Every filter
//! compares with a value of ours by equality, range or `$in`, never with an operator
//! or an expression that a client could have written.

mod accounts;
mod changes;
mod days;
mod document;
mod error;
mod follow;
mod holodules;
mod indexes;
mod logouts;
mod passwords;
mod uri;
mod users;

use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(super) use uri::{Accepted, accept, check};

use super::changed::Changed;
use super::{MongoUrl, Settings, StoreError};

const HOLODULES: &str = "holodules";
const USERS: &str = "users";
/// When each user's password was last seen to change: see [`passwords`].
const PASSWORD_STATES: &str = "holodule_password_states";
/// The logouts in force.
const LOGOUTS: &str = "holodule_logouts";
/// What each process writes to see how far its change stream has come: see [`changes`].
const ECHOES: &str = "holodule_echoes";
/// What the processes let each other know of, where there are no change streams: see [`days`].
const DAYS: &str = "holodule_days";

/// The longest that one connection attempt may take, where an operation may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine. Clones share one pool of connections.
#[derive(Clone)]
pub(super) struct Mongo {
    database: Database,
    /// Documents are read raw, so that one that cannot be read spoils no other.
    holodules: Collection<RawDocumentBuf>,
    users: Collection<RawDocumentBuf>,
    password_states: Collection<Document>,
    logouts: Collection<RawDocumentBuf>,
    echoes: Collection<RawDocumentBuf>,
    days: Collection<Document>,
    /// What our writes may have changed.
    changed: Arc<Changed>,
    /// Keyed at random, so that nobody can make two looks seem alike.
    sums: RandomState,
    timeout: Duration,
    indexes: Arc<Indexes>,
}

/// What the task that makes the indexes has to tell. The task ends with its last holder.
struct Indexes {
    /// Becomes true when the indexes stand, or cannot be had.
    settled: watch::Receiver<bool>,
    duplicate_video_ids: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Indexes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mongo {
    /// Prepares the client and starts to make the indexes, without waiting for a server.
    pub(super) async fn open(url: &MongoUrl, settings: &Settings, changed: Arc<Changed>) -> Result<Self, StoreError> {
        let timeout = settings.operation_timeout;
        // With mongodb+srv it asks the name server.
        let parsed = tokio::time::timeout(timeout, async { ClientOptions::parse(url.expose()).await }).await;
        let parsed = parsed.map_err(|_| StoreError::Unusable(format!("no name server tells the hosts of {url}")))?;
        let options = parsed.map(|options| adjust(options, settings));
        let client = options.and_then(Client::with_options).map_err(|error| uri::refused(url, &error))?;

        let database = client.database(url.database());
        let write_concern =
            WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(timeout).build();
        let collection = |name: &str, read_concern: ReadConcern| {
            let options = CollectionOptions::builder()
                .selection_criteria(primary())
                .read_concern(read_concern)
                .write_concern(write_concern.clone())
                .build();
            database.collection_with_options(name, options)
        };
        let holodules = collection(HOLODULES, ReadConcern::local());
        let users = collection(USERS, ReadConcern::majority());
        let password_states = collection(PASSWORD_STATES, ReadConcern::majority());
        let logouts = collection(LOGOUTS, ReadConcern::majority());
        let echoes = collection(ECHOES, ReadConcern::local());
        let days = collection(DAYS, ReadConcern::local());

        let (settled_sender, settled) = watch::channel(false);
        let duplicate_video_ids = Arc::new(AtomicU64::new(0));
        let collections = indexes::Collections {
            holodules: holodules.clone(),
            users: users.clone(),
            password_states: password_states.clone_with_type(),
            logouts: logouts.clone(),
            echoes: echoes.clone(),
        };
        let making = indexes::make(collections, Arc::clone(&duplicate_video_ids), settled_sender);
        let task = tokio::spawn(making).abort_handle();
        let indexes = Arc::new(Indexes { settled, duplicate_video_ids, task });
        let sums = RandomState::new();
        Ok(Self {
            database,
            holodules,
            users,
            password_states: password_states.clone_with_type(),
            logouts,
            echoes,
            days: days.clone_with_type(),
            changed,
            sums,
            timeout,
            indexes,
        })
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let ping = self.database.run_command(doc! { "ping": 1 }).selection_criteria(any_member());
        self.within(async { ping.await }).await.map(drop)
    }

    pub(super) fn duplicate_video_ids(&self) -> u64 {
        self.indexes.duplicate_video_ids.load(Ordering::Relaxed)
    }

    /// Waits for the unique indexes, without which two writers could store one holodule twice.
    async fn indexes_settled(&self) -> Result<(), StoreError> {
        let mut settled = self.indexes.settled.clone();
        match tokio::time::timeout(self.timeout, settled.wait_for(|settled| *settled)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable("the indexes are not made yet".to_owned())),
        }
    }

    /// The result of one operation, which may take as long as the operation timeout.
    async fn within<T>(&self, operation: impl Future<Output = mongodb::error::Result<T>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, operation).await {
            Ok(result) => result.map_err(|error| error::told(&error)),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", self.timeout.as_secs_f64()))),
        }
    }
}

/// What is ours to decide in the options of a URL.
fn adjust(mut options: ClientOptions, settings: &Settings) -> ClientOptions {
    let timeout = settings.operation_timeout;
    options.app_name.get_or_insert_with(|| "holodule-backend".to_owned());
    options.max_pool_size = Some(settings.max_connections);
    options.server_selection_timeout = Some(timeout);
    options.connect_timeout = Some(timeout.min(CONNECT_TIMEOUT));
    options
}

/// Reads that must not be stale.
fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// Reads that may be a little stale while there is no primary.
fn any_member() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred { options: None })
}
