//! The production engine: MongoDB, by its official driver, which appears nowhere else.
//!
//! Writes are acknowledged by a majority and journaled. Holodules are read from the
//! primary, or from a secondary while there is none, so that a primary's loss costs no
//! read; users, and what decides over their tokens, from the primary alone, and only what a
//! majority holds. Every filter
//! compares with a value of ours by equality, range or `$in`, never with an operator
//! or an expression that a client could have written.

mod accounts;
mod backup;
mod changes;
mod days;
mod document;
mod error;
mod follow;
mod holodules;
mod indexes;
mod logouts;
mod passwords;
mod rights;
mod undated;
mod uri;
mod url;
mod users;

use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database, ServerType};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

pub use url::MongoUrl;
pub(super) use url::check;

use self::indexes::{Collections, IndexCounts, Upkeep};
use super::changed::ChangedDays;
use super::{Probe, Settings, StoreError};

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
    /// The URL without its user and password.
    server: Arc<str>,
    database: Database,
    /// Documents are read raw, so that one that cannot be read spoils no other.
    holodules: Collection<RawDocumentBuf>,
    users: Collection<RawDocumentBuf>,
    password_states: Collection<Document>,
    logouts: Collection<RawDocumentBuf>,
    echoes: Collection<RawDocumentBuf>,
    days: Collection<Document>,
    /// What our writes may have changed.
    changed: Arc<ChangedDays>,
    /// Keyed at random, so that nobody can make two looks seem alike.
    sums: RandomState,
    timeout: Duration,
    indexes: Arc<Indexes>,
}

/// What the task that makes the indexes has to tell. The task ends with its last holder.
struct Indexes {
    /// Becomes true when the indexes stand, or cannot be had.
    settled: watch::Receiver<bool>,
    counts: Arc<IndexCounts>,
    /// Asks for a verification.
    again: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Indexes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mongo {
    /// Prepares the client and starts to make the indexes, without waiting for a server. They are
    /// verified at least once in each `index_interval`.
    pub(super) async fn open(
        url: &MongoUrl,
        settings: &Settings,
        index_interval: Duration,
        changed: Arc<ChangedDays>,
    ) -> Result<Self, StoreError> {
        let timeout = settings.operation_timeout;
        let again = Arc::new(Notify::new());
        let client = connect(url, settings, Some(Arc::clone(&again))).await?;
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
        let counts = Arc::new(IndexCounts::default());
        let upkeep = Upkeep {
            server: url.to_string(),
            collections: Collections {
                holodules: holodules.clone(),
                users: users.clone(),
                password_states: password_states.clone_with_type(),
                logouts: logouts.clone(),
                echoes: echoes.clone(),
            },
            counts: Arc::clone(&counts),
            again: Arc::clone(&again),
            interval: index_interval,
        };
        let task = tokio::spawn(upkeep.run(settled_sender)).abort_handle();
        let indexes = Arc::new(Indexes { settled, counts, again, task });
        let sums = RandomState::new();
        Ok(Self {
            server: url.to_string().into(),
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
        self.indexes.counts.duplicate_video_ids.load(Ordering::Relaxed)
    }

    pub(super) fn undated_holodules(&self) -> u64 {
        self.indexes.counts.undated.load(Ordering::Relaxed)
    }

    pub(super) fn restored_indexes(&self) -> u64 {
        self.indexes.counts.restored.load(Ordering::Relaxed)
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
            Ok(result) => result.map_err(|error| error::store_error(&self.server, &error)),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", self.timeout.as_secs_f64()))),
        }
    }
}

/// Contacts the server once and lists what no day shows. Nothing is written.
pub(super) async fn probe(url: &MongoUrl, settings: &Settings) -> Result<Probe, StoreError> {
    let server = url.to_string();
    let client = connect(url, settings, None).await?;
    let holodules: Collection<RawDocumentBuf> = client.database(url.database()).collection(HOLODULES);
    // The first command logs in; reading one document shows that the user may read.
    let read = async { holodules.find_one(doc! {}).selection_criteria(any_member()).await };
    let read = tokio::time::timeout(settings.operation_timeout.saturating_mul(2), read).await;
    let read = read.map_err(|_| StoreError::Unavailable("no answer in time".to_owned()))?;
    read.map_err(|error| error::store_error(&server, &error))?;
    let (undated, first_undated) = undated::list(&server, &holodules).await?;
    Ok(Probe { undated, first_undated })
}

/// The client; `reconnected` is notified of each server that becomes reachable.
async fn connect(url: &MongoUrl, settings: &Settings, reconnected: Option<Arc<Notify>>) -> Result<Client, StoreError> {
    // With mongodb+srv it asks the name server.
    let parsed = async { ClientOptions::parse(url.expose()).await };
    let parsed = tokio::time::timeout(settings.operation_timeout, parsed).await;
    let parsed = parsed.map_err(|_| StoreError::Unusable(format!("no name server tells the hosts of {url}")))?;
    let mut options = adjust(parsed.map_err(|error| url::refused(url, &error))?, settings);
    options.sdam_event_handler = reconnected.map(|reconnected| {
        EventHandler::callback(move |event| {
            if let SdamEvent::ServerDescriptionChanged(change) = event
                && change.previous_description.server_type() == ServerType::Unknown
                && change.new_description.server_type() != ServerType::Unknown
            {
                reconnected.notify_one();
            }
        })
    });
    Client::with_options(options).map_err(|error| url::refused(url, &error))
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
