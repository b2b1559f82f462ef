//! Where holodules and users are kept: one interface, two engines behind one URL.
//!
//! [`Store`] is cheap to clone and is what the rest of the program holds. Which
//! engine serves it is decided once, by [`StoreUrl`]; the same contract tests
//! (`tests/it/contract`) run on both.

mod changed;
mod embedded;
mod error;
mod mongo;
mod outcome;
mod url;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};

pub use error::StoreError;
pub use outcome::{
    BackedUp, Change, Confirmed, DayListing, Exported, Incoming, LOGOUT_LIMIT, LoggedOut, Probe, Restored, Sighting,
    Undated, Upserted, UserChange, Watching,
};
pub use url::{MongoUrl, NotAStoreUrl, StoreUrl};

use changed::Changed;

use crate::hex;
use crate::model::{
    AccountStatus, Day, Days, Entry, Identifier, Logout, NewUser, RESERVED_PREFIX, Saved, StoredPassword, StoredUser,
    UserSummary,
};
use tokio::sync::mpsc;

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
    changed: Arc<Changed>,
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
        let changed = Arc::new(Changed::default());
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

    /// The holodules of one day of Japan's wall clock.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        engine!(self.day(day))
    }

    /// A number that grows before a change is acknowledged or told of: what was read before that
    /// was read at another version. It says nothing of what other hands change unheard.
    pub fn version(&self) -> u64 {
        self.changed.version()
    }

    /// Stores `entries` in their order, each found by its [`Identifier`]; a later
    /// one with the same identifier wins. What is stored keeps the fields that an entry
    /// does not supply ([`crate::model::Holodule::updated_by`]).
    ///
    /// Several videos may share a key. An entry without a video is stored over the one of
    /// its key that has no video either, else over the oldest.
    ///
    /// When this returns, what it tells of is durable; it runs to its end even where its caller
    /// goes away. Where it fails, the embedded store
    /// holds none of the entries; MongoDB may hold some, and the call may be repeated.
    ///
    /// # Errors
    /// Where an entry could not be written, or it is not known whether it was.
    pub async fn upsert(&self, entries: Vec<Entry>) -> Result<Vec<Upserted>, StoreError> {
        engine!(self.upsert(entries))
    }

    /// Removes one holodule, and tells whether it was there. By key it is the one that
    /// [`Store::upsert`] would find. It runs to its end even where its caller goes away.
    ///
    /// # Errors
    /// Where it is not known whether the holodule is gone.
    pub async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        engine!(self.delete_holodule(id))
    }

    /// The days that [`Store::upsert`] and [`Store::delete_holodule`] of this process have changed
    /// since the last call, also those where it is not known whether they did. Waits until there
    /// are some; for one caller at a time.
    pub async fn changed_days(&self) -> Days {
        self.changed.take().await
    }

    /// The days that somebody has changed in the engine, where it tells of them: from now on, and
    /// at first all of them. For errors and the end it is as for [`Store::changes`].
    pub fn day_changes(&self) -> BoxStream<'static, Result<Days, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => {
                let changed = Arc::clone(&self.changed);
                engine.day_changes().inspect(move |_| changed.renew()).boxed()
            }
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Notes days for the other processes over the same engine, where it does not tell of changes
    /// by itself. The numbers of the notes, counted through all processes.
    ///
    /// # Errors
    /// Where it is not known whether they are noted; that may be repeated.
    pub async fn note_days(&self, days: &Days) -> Result<Range<i64>, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.note_days(days).await,
            Engine::Embedded(_) => Ok(0..0),
        }
    }

    /// The days that any process has noted from number `since` on, and the number of the next
    /// note. All days where that cannot be told, or `since` is `None`.
    ///
    /// # Errors
    /// Where the notes cannot be read.
    pub async fn noted_days(&self, since: Option<i64>) -> Result<(i64, Days), StoreError> {
        let noted = match &self.engine {
            Engine::Mongo(engine) => engine.noted_days(since).await,
            Engine::Embedded(_) => Ok((0, Days::default())),
        };
        noted.inspect(|(_, days)| {
            if !days.is_empty() {
                self.changed.renew();
            }
        })
    }

    /// How many holodules there are (an estimate is allowed above zero).
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn count_holodules(&self) -> Result<u64, StoreError> {
        engine!(self.count_holodules())
    }

    /// Every holodule, by `datetime` and then `key`, both ascending.
    ///
    /// # Errors
    /// Where the reading cannot begin; one that breaks off tells so in the stream.
    pub async fn export(&self) -> Result<BoxStream<'static, Result<Exported, StoreError>>, StoreError> {
        engine!(self.export())
    }

    /// One user by the exact bytes of the name, disabled ones too. `None` where there
    /// is none, or where the stored document is no user that could log in.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn user(&self, username: &str) -> Result<Option<StoredUser>, StoreError> {
        engine!(self.user(username))
    }

    /// Every user, without the stored password, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn users(&self) -> Result<Vec<UserSummary>, StoreError> {
        engine!(self.users())
    }

    /// Adds a user; `false` where the name is taken.
    ///
    /// # Errors
    /// Where it is not known whether the user was added.
    pub async fn create_user(&self, user: NewUser) -> Result<bool, StoreError> {
        engine!(self.create_user(user))
    }

    /// A change of password: stores the new hash and the time of the change, in seconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// Where it is not known whether the password was changed.
    pub async fn change_password(&self, username: &str, hash: &str, changed_at: i64) -> Result<UserChange, StoreError> {
        engine!(self.change_password(username, hash, changed_at))
    }

    /// Replaces the stored form of a password that stays the same: only where what is
    /// stored still equals `stored`, and without the time of a change. `false` where
    /// it did not.
    ///
    /// # Errors
    /// Where it is not known whether the form was replaced. The password is good all the same.
    pub async fn upgrade_password(&self, username: &str, stored: &str, hash: &str) -> Result<bool, StoreError> {
        engine!(self.upgrade_password(username, stored, hash))
    }

    /// Disables or enables a user.
    ///
    /// # Errors
    /// Where it is not known whether the user was changed.
    pub async fn set_disabled(&self, username: &str, disabled: bool) -> Result<UserChange, StoreError> {
        engine!(self.set_disabled(username, disabled))
    }

    /// Removes a user.
    ///
    /// # Errors
    /// Where it is not known whether the user is gone.
    pub async fn delete_user(&self, username: &str, now: i64) -> Result<UserChange, StoreError> {
        engine!(self.delete_user(username, now))
    }

    /// What holds for the tokens of `identity`, and a fingerprint of it. `now` is in seconds
    /// since the Unix epoch, here and below.
    ///
    /// A password that was changed past this interface, in MongoDB itself, counts as changed
    /// now: that is stored before this returns.
    ///
    /// # Errors
    /// Where the store cannot be read, or such a change not be stored.
    pub async fn account(&self, identity: &str, now: i64) -> Result<(AccountStatus, Sighting), StoreError> {
        if identity.starts_with(RESERVED_PREFIX) {
            return Ok((AccountStatus::default(), Sighting::default()));
        }
        engine!(self.account(identity, now))
    }

    /// Whether the user may still log in with `stored`, which the password was compared with.
    /// A change past this interface is stored as by [`Store::account`].
    ///
    /// # Errors
    /// Those of [`Store::account`].
    pub async fn confirm_login(
        &self,
        username: &str,
        stored: &StoredPassword,
        now: i64,
    ) -> Result<Confirmed, StoreError> {
        engine!(self.confirm_login(username, stored, now))
    }

    /// Remembers a logout until it expires. A second one of the same token is as good as one.
    ///
    /// # Errors
    /// Where it is not known whether the logout was stored; it may be repeated.
    pub async fn log_out(&self, logout: &Logout, now: i64) -> Result<LoggedOut, StoreError> {
        engine!(self.log_out(logout, now))
    }

    /// Frees the room of logouts that have expired, where the engine does not by itself.
    ///
    /// # Errors
    /// Where they could not be removed. They are not told of in any case.
    pub async fn remove_expired_logouts(&self, now: i64) -> Result<(), StoreError> {
        engine!(self.remove_expired_logouts(now))
    }

    /// How changes by other hands are learnt of, as the engine is found now.
    ///
    /// # Errors
    /// Where the engine does not answer.
    pub async fn watching(&self) -> Result<Watching, StoreError> {
        engine!(self.watching())
    }

    /// Changes from now on, where the engine tells of them, and the echoes under this name.
    ///
    /// An error tells that they cannot be followed just now; what was missed by then is told
    /// afterwards, or [`Change::Anything`] is. The stream ends where the engine refuses to tell.
    pub fn changes(&self, echoes: &str) -> BoxStream<'static, Result<Change, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => engine.changes(echoes),
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Writes a number that comes back among [`Store::changes`].
    ///
    /// # Errors
    /// Where it is not known whether it will.
    pub async fn echo(&self, echoes: &str, number: i64) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.echo(echoes, number).await,
            Engine::Embedded(_) => Ok(()),
        }
    }

    /// A look at many accounts at once, by name. An account that is not there has a sighting too.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn sightings(
        &self,
        identities: &[Arc<str>],
        now: i64,
    ) -> Result<HashMap<Arc<str>, Sighting>, StoreError> {
        engine!(self.sightings(identities, now))
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

    /// How many holodules no day shows, because their `datetime` is not text that begins with a
    /// day, as last counted. Always 0 when embedded.
    pub fn undated_holodules(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.undated_holodules(),
            Engine::Embedded(_) => 0,
        }
    }

    /// How many of MongoDB's indexes were found missing since the start and made again.
    pub fn restored_indexes(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.restored_indexes(),
            Engine::Embedded(_) => 0,
        }
    }

    /// How many `video_id`s stand in more than one document, as last counted: above
    /// zero, MongoDB serves without its unique index. Always 0 when embedded.
    pub fn duplicate_video_ids(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.duplicate_video_ids(),
            Engine::Embedded(_) => 0,
        }
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
