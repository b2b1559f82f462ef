//! Stores holodules and users: one interface and two engines.
//!
//! [`Store`] is cheap to clone. [`StoreUrl`] selects the engine. The same contract tests (`tests/it/contract`) run on
//! both.

mod accounts;
mod calendars;
mod changed;
mod closed;
mod duplicates;
mod embedded;
mod error;
mod holodules;
mod lookup;
mod mongo;
mod outcome;
mod schedules;
mod streamers;
mod trace;
mod url;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use closed::ClosedStore;
pub use duplicates::DuplicateDeleted;
pub use error::StoreError;
pub use lookup::{FOUND_LIMIT, FoundHolodule};
pub use mongo::MongoUrl;
pub use outcome::{
    AccountChange, BackedUp, CalendarCreated, ChangeDetection, Confirmed, DayListing, DisabledUser, Exported,
    Fingerprint, Incoming, LOGOUT_LIMIT, Listing, LoggedOut, Probe, Restored, RolesChanged, SearchCacheStats,
    StreamersStored, Undated, Upserted, UserChange,
};
pub use url::{NotAStoreUrl, StoreUrl};

use changed::ChangedDays;
use embedded::Opening;

use crate::hex;
use crate::model::{RESERVED_PREFIX, Saved};

/// The maximum interval between verifications of MongoDB's indexes.
const INDEX_INTERVAL: Duration = Duration::from_secs(3600);

/// The settings of the store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine and its address.
    pub url: StoreUrl,
    /// Timeout of one operation, including server selection.
    pub operation_timeout: Duration,
    /// The maximum number of connections to MongoDB, 1 to 10,000.
    pub max_connections: u32,
    /// The maximum memory in bytes for the texts of days on MongoDB that were searched. With 0, none are cached.
    pub text_cache: u64,
}

/// The store. Clones share one engine.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    changed: Arc<ChangedDays>,
}

#[derive(Clone)]
enum Engine {
    Mongo(mongo::Mongo),
    Embedded(embedded::Embedded),
}

/// Calls the method of the same name on the engine, within a span of the request's trace.
macro_rules! engine {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {{
        let span = $crate::store::trace::begin(&$self.engine, stringify!($method));
        let result = match &$self.engine {
            Engine::Mongo(engine) => engine.$method($($argument),*).await,
            Engine::Embedded(engine) => engine.$method($($argument),*).await,
        };
        if let Some(span) = span {
            span.end(&result);
        }
        result
    }};
}
use engine;

impl Store {
    /// Opens the engine and creates its indexes.
    ///
    /// If MongoDB is unavailable, this succeeds: the indexes are created later, and until then operations return
    /// [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// If the store can never work: an embedded file is locked by another process, damaged or not writable; the driver
    /// rejects a MongoDB URL.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        Self::open_verifying(settings, INDEX_INTERVAL).await
    }

    /// Opens the store that another process has closed for this one ([`Store::close`]), or used until it died. Waits at
    /// most `within` for the lock of an embedded file, and does not check the whole file, which that process did.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn take_over(settings: &Settings, within: Duration) -> Result<Self, StoreError> {
        Self::open_with(settings, INDEX_INTERVAL, Opening::After(within)).await
    }

    /// Completes [`Store::take_over`] when the other process cannot open the store again: an embedded file of an older
    /// version gets its indexes, which that process might not maintain. Until then, lists of such a file are
    /// [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn taken_over(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Embedded(engine) => engine.build_indexes().await,
            Engine::Mongo(_) => Ok(()),
        }
    }

    /// [`Store::open`] with another interval of index verifications, for tests.
    pub async fn open_verifying(settings: &Settings, index_interval: Duration) -> Result<Self, StoreError> {
        Self::open_with(settings, index_interval, Opening::Checked).await
    }

    async fn open_with(settings: &Settings, index_interval: Duration, opening: Opening) -> Result<Self, StoreError> {
        let changed = Arc::new(ChangedDays::default());
        let engine = match &settings.url {
            StoreUrl::Mongo(url) => {
                Engine::Mongo(mongo::Mongo::open(url, settings, index_interval, Arc::clone(&changed)).await?)
            }
            StoreUrl::Embedded(path) => {
                let timeout = settings.operation_timeout;
                let engine = embedded::Embedded::open(path, opening, timeout, Arc::clone(&changed)).await?;
                if matches!(opening, Opening::Checked) {
                    engine.build_indexes().await?;
                }
                Engine::Embedded(engine)
            }
        };
        Ok(Self { engine, changed })
    }

    /// The checks of [`Store::open`] that contact no server and open no file. Needs a runtime, because the driver
    /// spawns tasks.
    pub fn check(settings: &Settings) -> Result<(), StoreError> {
        match &settings.url {
            StoreUrl::Mongo(url) => mongo::check(url, settings),
            StoreUrl::Embedded(_) => Ok(()),
        }
    }

    /// Contacts the server of `settings.url` and reads from it without writing. The embedded store has none.
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::Unavailable`] if the server is unavailable or rejects the user.
    pub async fn probe(settings: &Settings) -> Result<Probe, StoreError> {
        match &settings.url {
            StoreUrl::Mongo(url) => mongo::probe(url, settings).await,
            StoreUrl::Embedded(_) => Ok(Probe::default()),
        }
    }

    /// Checks that the engine responds within the operation timeout.
    ///
    /// # Errors
    /// Any [`StoreError`] except `Unusable`, as for all operations below.
    pub async fn ping(&self) -> Result<(), StoreError> {
        engine!(self.ping())
    }

    /// Checks that the engine responds and grants all needed rights.
    ///
    /// # Errors
    /// Those of [`Store::ping`]; [`StoreError::Failed`] if a right is missing.
    pub async fn check_ready(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.check_rights().await,
            Engine::Embedded(engine) => engine.ping().await,
        }
    }

    /// Sends all calendar feeds, streamers, logouts, holodules and users to `records`, in this order. On the embedded
    /// engine, a replica set and a sharded cluster they are one snapshot; a standalone server is read collection by
    /// collection.
    ///
    /// # Errors
    /// If the store cannot be read completely, or the receiver is dropped.
    pub async fn backup(&self, records: mpsc::Sender<Saved>) -> Result<BackedUp, StoreError> {
        engine!(self.backup(records))
    }

    /// Stores the records of a backup. With `replace`, they replace all users and holodules. Stored logouts always
    /// remain, and streamers are stored by code as by [`Store::store_streamers`].
    ///
    /// Every user's password counts as changed now, because tokens may have been revoked after the backup was made. The
    /// restore completes even if the caller is dropped. On the embedded engine it is atomic; on MongoDB, a failed
    /// restore is partial and must be repeated with `replace`.
    ///
    /// # Errors
    /// If the store cannot be written, or the records end with an error.
    pub async fn restore(&self, records: Incoming, replace: bool, now: i64) -> Result<Restored, StoreError> {
        engine!(self.restore(records, replace, now))
    }
}

/// Whether a login is possible with a stored value: never for reserved names and empty passwords.
fn can_log_in(username: &str, password: &str) -> bool {
    !username.starts_with(RESERVED_PREFIX) && !password.is_empty()
}

/// A new user's `id`: random, because a counter would need a lock that existing databases lack.
fn random_id() -> Result<String, StoreError> {
    hex::random_id().map_err(|error| StoreError::Failed(error.to_string()))
}
