//! Where holodules and users are kept: one interface, two engines behind one URL.
//!
//! [`Store`] is cheap to clone and is what the rest of the program holds. Which
//! engine serves it is decided once, by [`StoreUrl`]; the same contract tests
//! (`tests/it/contract`) run on both.

mod accounts;
mod changed;
mod embedded;
mod error;
mod holodules;
mod mongo;
mod outcome;
mod url;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use error::StoreError;
pub use mongo::MongoUrl;
pub use outcome::{
    AccountChange, BackedUp, ChangeDetection, Confirmed, DayListing, Exported, Fingerprint, Incoming, LOGOUT_LIMIT,
    LoggedOut, Probe, Restored, Undated, Upserted, UserChange,
};
pub use url::{NotAStoreUrl, StoreUrl};

use changed::ChangedDays;

use crate::hex;
use crate::model::{RESERVED_PREFIX, Saved};

/// How often MongoDB's indexes are verified at the least.
const INDEX_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the engines may take, and what the deployment allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which engine, and where.
    pub url: StoreUrl,
    /// The longest one operation may take, server selection included.
    pub operation_timeout: Duration,
    /// Connections to MongoDB at most. 1 to 10,000.
    pub max_connections: u32,
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

/// Calls the method of the same name on whichever engine serves.
macro_rules! engine {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match &$self.engine {
            Engine::Mongo(engine) => engine.$method($($argument),*).await,
            Engine::Embedded(engine) => engine.$method($($argument),*).await,
        }
    };
}
use engine;

impl Store {
    /// Opens the engine that `settings.url` names and makes its indexes.
    ///
    /// MongoDB that does not answer yet is no error: the indexes are made when it
    /// does, and until then each operation says [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// A store that can never serve: an embedded file that is locked by another
    /// process, damaged or not writable; a MongoDB URL that the driver refuses.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        Self::open_verifying(settings, INDEX_INTERVAL).await
    }

    /// [`Store::open`] with another interval at which MongoDB's indexes are verified, for tests.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn open_verifying(settings: &Settings, index_interval: Duration) -> Result<Self, StoreError> {
        let changed = Arc::new(ChangedDays::default());
        let engine = match &settings.url {
            StoreUrl::Mongo(url) => {
                Engine::Mongo(mongo::Mongo::open(url, settings, index_interval, Arc::clone(&changed)).await?)
            }
            StoreUrl::Embedded(path) => {
                let engine = embedded::Embedded::open(path, settings.operation_timeout, Arc::clone(&changed));
                Engine::Embedded(engine.await?)
            }
        };
        Ok(Self { engine, changed })
    }

    /// Checks what [`Store::open`] checks before it contacts a server or opens a file. Needs a
    /// runtime, for the driver starts tasks of its own.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn check(settings: &Settings) -> Result<(), StoreError> {
        match &settings.url {
            StoreUrl::Mongo(url) => mongo::check(url, settings),
            StoreUrl::Embedded(_) => Ok(()),
        }
    }

    /// Contacts the server that `settings.url` names and reads from it, without writing. The embedded
    /// store has none.
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::Unavailable`] where the server does not answer or
    /// refuses the user.
    pub async fn probe(settings: &Settings) -> Result<Probe, StoreError> {
        match &settings.url {
            StoreUrl::Mongo(url) => mongo::probe(url, settings).await,
            StoreUrl::Embedded(_) => Ok(Probe::default()),
        }
    }

    /// Whether the engine answers now, within the operation timeout.
    ///
    /// # Errors
    /// Any [`StoreError`] but `Unusable`, as for every operation below.
    pub async fn ping(&self) -> Result<(), StoreError> {
        engine!(self.ping())
    }

    /// Whether the engine answers, and this service has the rights that it needs there.
    ///
    /// # Errors
    /// Those of [`Store::ping`]; [`StoreError::Failed`] where a right is missing.
    pub async fn check_ready(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.check_rights().await,
            Engine::Embedded(engine) => engine.ping().await,
        }
    }

    /// Sends every logout, holodule and user to `records`: those of one moment on the embedded
    /// engine, a replica set and a sharded cluster; on a standalone server one collection after
    /// the other.
    ///
    /// # Errors
    /// Where the store cannot be read to its end, or the receiver has ended.
    pub async fn backup(&self, records: mpsc::Sender<Saved>) -> Result<BackedUp, StoreError> {
        engine!(self.backup(records))
    }

    /// Stores the records of a backup, with `replace` in place of all users and holodules that
    /// there are; logouts in force are kept in any case.
    ///
    /// Every user's password counts as set now: a token of before may have been revoked after the
    /// backup was made, which the backup does not know. It runs to its end even where its caller
    /// goes away. The embedded engine stores all records or none; on MongoDB a restore that fails
    /// leaves a part, and has to be repeated with `replace`.
    ///
    /// # Errors
    /// Where the store cannot be written, or the records end with an error.
    pub async fn restore(&self, records: Incoming, replace: bool, now: i64) -> Result<Restored, StoreError> {
        engine!(self.restore(records, replace, now))
    }
}

/// Whether somebody could log in with what is stored. The names of machine tokens and
/// empty passwords never can.
fn can_log_in(username: &str, password: &str) -> bool {
    !username.starts_with(RESERVED_PREFIX) && !password.is_empty()
}

/// A new user's `id`: random, since counting up would need a lock that an existing database
/// does not have.
fn random_id() -> Result<String, StoreError> {
    hex::random_id().map_err(|error| StoreError::Failed(error.to_string()))
}
