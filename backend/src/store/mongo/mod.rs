//! The production engine: MongoDB with the official driver, which is used nowhere else.
//!
//! Writes are acknowledged by a majority and journaled. Holodules are read from the primary, or from a secondary while
//! there is no primary, so that reads survive its loss. Users and the state of their tokens are read from the primary
//! only, with majority read concern. Every filter compares with a fixed value by equality, range or `$in`, never with
//! an operator or expression from a client.

mod accounts;
mod backup;
mod calendars;
mod changes;
mod conditional;
mod days;
mod document;
mod duplicates;
mod error;
mod event;
mod follow;
mod holodules;
mod indexes;
mod list;
mod logouts;
mod lookup;
mod passwords;
mod rights;
mod roles;
mod schedules;
mod streamers;
mod texts;
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

use self::indexes::{Collections, IndexCounts, Maintenance};
use self::texts::Texts;
use super::changed::ChangedDays;
use super::{Probe, SearchCacheStats, Settings, StoreError};

const HOLODULES: &str = "holodules";
/// The author's later form of holodules, written by other programs only.
const SCHEDULES: &str = "schedules";
/// The streamers, also of the author's later service.
const STREAMERS: &str = "streamers";
const USERS: &str = "users";
/// The time of each user's last password change: see [`passwords`].
const PASSWORD_STATES: &str = "holodule_password_states";
/// Unexpired logouts.
const LOGOUTS: &str = "holodule_logouts";
/// Calendar feeds.
const CALENDARS: &str = "holodule_calendars";
/// Numbers written to measure the progress of the change stream: see [`changes`].
const ECHOES: &str = "holodule_echoes";
/// Days recorded by the processes for each other without change streams: see [`days`].
const DAYS: &str = "holodule_days";

/// The maximum timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine. Clones share one pool of connections.
#[derive(Clone)]
pub(super) struct Mongo {
    /// The URL without its user and password.
    server: Arc<str>,
    database: Database,
    /// Documents are read raw, so that an unreadable one does not affect others.
    holodules: Collection<RawDocumentBuf>,
    schedules: Collection<RawDocumentBuf>,
    streamers: Collection<RawDocumentBuf>,
    users: Collection<RawDocumentBuf>,
    password_states: Collection<Document>,
    logouts: Collection<RawDocumentBuf>,
    calendars: Collection<RawDocumentBuf>,
    echoes: Collection<RawDocumentBuf>,
    days: Collection<Document>,
    /// Changes of days.
    changed: Arc<ChangedDays>,
    texts: Arc<Texts>,
    /// Randomly keyed, so that no client can cause collisions of fingerprints.
    hash_keys: RandomState,
    timeout: Duration,
    indexes: Arc<Indexes>,
}

/// State shared with the index task, which ends with the last holder.
struct Indexes {
    /// True when the indexes exist or cannot be created.
    settled: watch::Receiver<bool>,
    counts: Arc<IndexCounts>,
    /// Requests a verification.
    again: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Indexes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mongo {
    /// Creates the client and starts to create the indexes, without waiting for a server. They are verified at least
    /// once per `index_interval`.
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
        let schedules = collection(SCHEDULES, ReadConcern::local());
        let streamers = collection(STREAMERS, ReadConcern::local());
        let users = collection(USERS, ReadConcern::majority());
        let password_states = collection(PASSWORD_STATES, ReadConcern::majority());
        let logouts = collection(LOGOUTS, ReadConcern::majority());
        let calendars = collection(CALENDARS, ReadConcern::majority());
        let echoes = collection(ECHOES, ReadConcern::local());
        let days = collection(DAYS, ReadConcern::local());

        let (settled_sender, settled) = watch::channel(false);
        let counts = Arc::new(IndexCounts::default());
        let maintenance = Maintenance {
            server: url.to_string(),
            collections: Collections {
                holodules: holodules.clone(),
                schedules: schedules.clone(),
                streamers: streamers.clone(),
                users: users.clone(),
                password_states: password_states.clone_with_type(),
                logouts: logouts.clone(),
                calendars: calendars.clone(),
                echoes: echoes.clone(),
            },
            counts: Arc::clone(&counts),
            again: Arc::clone(&again),
            interval: index_interval,
        };
        let task = tokio::spawn(maintenance.run(settled_sender)).abort_handle();
        let indexes = Arc::new(Indexes { settled, counts, again, task });
        let hash_keys = RandomState::new();
        Ok(Self {
            server: url.to_string().into(),
            database,
            holodules,
            schedules,
            streamers,
            users,
            password_states: password_states.clone_with_type(),
            logouts,
            calendars,
            echoes,
            days: days.clone_with_type(),
            texts: Arc::new(Texts::new(settings.text_cache, Arc::clone(&changed))),
            changed,
            hash_keys,
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

    pub(super) fn search_cache(&self) -> SearchCacheStats {
        self.texts.stats()
    }

    /// Waits for the unique indexes, without which concurrent writers could store a holodule twice.
    async fn indexes_settled(&self) -> Result<(), StoreError> {
        let mut settled = self.indexes.settled.clone();
        match tokio::time::timeout(self.timeout, settled.wait_for(|settled| *settled)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable("the indexes have not been created yet".to_owned())),
        }
    }

    /// Runs one operation within the operation timeout.
    async fn within<T>(&self, operation: impl Future<Output = mongodb::error::Result<T>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, operation).await {
            Ok(result) => result.map_err(|error| error::store_error(&self.server, &error)),
            Err(_) => Err(StoreError::Unavailable(format!("no response within {} s", self.timeout.as_secs_f64()))),
        }
    }
}

/// Contacts the server and lists holodules without a day. Nothing is written.
pub(super) async fn probe(url: &MongoUrl, settings: &Settings) -> Result<Probe, StoreError> {
    let server = url.to_string();
    let client = connect(url, settings, None).await?;
    let holodules: Collection<RawDocumentBuf> = client.database(url.database()).collection(HOLODULES);
    // The first command authenticates; reading a document shows that the user has read access.
    let read = async { holodules.find_one(doc! {}).selection_criteria(any_member()).await };
    let read = tokio::time::timeout(settings.operation_timeout.saturating_mul(2), read).await;
    let read = read.map_err(|_| StoreError::Unavailable("no response in time".to_owned()))?;
    read.map_err(|error| error::store_error(&server, &error))?;
    let (undated, first_undated) = undated::list(&server, &holodules).await?;
    Ok(Probe { undated, first_undated })
}

/// Creates the client. `reconnected` is notified of each server that becomes reachable.
async fn connect(url: &MongoUrl, settings: &Settings, reconnected: Option<Arc<Notify>>) -> Result<Client, StoreError> {
    // With mongodb+srv this queries DNS.
    let parsed = async { ClientOptions::parse(url.expose()).await };
    let parsed = tokio::time::timeout(settings.operation_timeout, parsed).await;
    let parsed = parsed.map_err(|_| StoreError::Unusable(format!("DNS did not return the hosts of {url} in time")))?;
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

/// Sets the options that the URL does not decide.
fn adjust(mut options: ClientOptions, settings: &Settings) -> ClientOptions {
    let timeout = settings.operation_timeout;
    options.app_name.get_or_insert_with(|| "holodule-backend".to_owned());
    options.max_pool_size = Some(settings.max_connections);
    options.server_selection_timeout = Some(timeout);
    options.connect_timeout = Some(timeout.min(CONNECT_TIMEOUT));
    options
}

/// Whether a response to `hello` is from a member of a replica set or a router of a sharded cluster.
fn is_distributed(hello: &Document) -> bool {
    hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid")
}

/// For reads that must not be stale.
fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// For reads that may be slightly stale while there is no primary.
fn any_member() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred { options: None })
}
