//! The embedded engine: one redb file, used by one process.
//!
//! Every write is a transaction that is on disk before the call returns, so that acknowledged writes survive a killed
//! process and a power failure. redb blocks, so calls run on tokio's blocking threads: a few reads at a time, and one
//! write. A call that gets no permit within the operation timeout fails, and a read that takes longer is abandoned. A
//! write that has started completes, however long the disk takes and even if its caller is dropped.

mod abandoned;
mod accounts;
mod backup;
mod building;
mod calendars;
mod closed;
mod conditional;
mod file;
mod holodules;
mod indexes;
mod list;
mod logouts;
mod lookup;
mod opening;
mod plan;
mod scan;
mod schedules;
mod streamers;
mod users;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::closed::ClosedFile;
use self::file::StoreFile;
pub(super) use self::opening::Opening;
use super::changed::{ChangedDays, TouchedDays};
use super::{
    ChangeDetection, Confirmed, DayListing, Exported, Fingerprint, LoggedOut, RolesChanged, StoreError, Upserted,
    UserChange,
};
use users::AccountState;

use crate::model::{
    AccountStatus, Day, Identifier, Logout, RolesChange, StoredPassword, StoredRoles, StoredUser, UserSummary,
    ValidHolodule,
};

/// The maximum number of concurrent reads.
const READERS: u32 = 8;
/// The page cache, in bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Records that an export reads at a time.
const EXPORT_PAGE: usize = 256;
/// The version of the table layout. Files of later versions are rejected.
const FORMAT: u64 = 2;
/// The version without indexes of lists, to which they are added.
const EARLIER_FORMAT: u64 = 1;

/// Counters and the format: `format`, `next_holodule`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The engine. Clones share one file.
#[derive(Clone)]
pub(super) struct Embedded {
    file: Arc<StoreFile>,
    readers: Arc<Semaphore>,
    writer: Arc<Semaphore>,
    timeout: Duration,
    changed: Arc<ChangedDays>,
}

impl Embedded {
    /// Opens the file, or creates it, readable by its owner only.
    pub(super) async fn open(
        path: &Path,
        opening: Opening,
        timeout: Duration,
        changed: Arc<ChangedDays>,
    ) -> Result<Self, StoreError> {
        let file = opening::open(path, opening).await?;
        Ok(Self {
            file: Arc::new(file),
            readers: Arc::new(Semaphore::new(READERS as usize)),
            writer: Arc::new(Semaphore::new(1)),
            timeout,
            changed,
        })
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.read(|transaction| transaction.open_table(META).map(drop).map_err(redb::Error::from)).await
    }

    pub(super) async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        self.read(move |transaction| holodules::day(transaction, day)).await
    }

    pub(super) async fn upsert(&self, entries: Vec<ValidHolodule>) -> Result<Vec<Upserted>, StoreError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.write_days(move |transaction, touched| holodules::upsert(transaction, &entries, touched)).await
    }

    pub(super) async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write_days(move |transaction, touched| holodules::delete(transaction, &id, touched)).await
    }

    pub(super) async fn count_holodules(&self) -> Result<u64, StoreError> {
        self.read(holodules::count).await
    }

    /// Reads one snapshot page by page, so that a slow reader blocks no thread.
    pub(super) async fn export(&self) -> Result<BoxStream<'static, Result<Exported, StoreError>>, StoreError> {
        let file = Arc::clone(&self.file);
        let permit = acquire(&self.readers, self.timeout).await?;
        let snapshot = blocking(permit, move || file.snapshot()).await?;
        let state = Some((self.clone(), Arc::new(snapshot), None));
        let pages = stream::unfold(state, |state| async move {
            let (engine, snapshot, after) = state?;
            let (view, from) = (Arc::clone(&snapshot), after);
            let page = match acquire(&engine.readers, engine.timeout).await {
                Ok(permit) => blocking(permit, move || holodules::page(&view, from.as_ref(), EXPORT_PAGE)).await,
                Err(error) => Err(error),
            };
            Some(match page {
                Ok((records, last)) => {
                    let next = last.map(|last| (engine, snapshot, Some(last)));
                    (records.into_iter().map(Ok).collect::<Vec<_>>(), next)
                }
                Err(error) => (vec![Err(error)], None),
            })
        });
        Ok(pages.flat_map(stream::iter).boxed())
    }

    pub(super) async fn user(&self, username: &str) -> Result<Option<StoredUser>, StoreError> {
        let username = username.to_owned();
        self.read(move |transaction| users::user(transaction, &username)).await
    }

    pub(super) async fn users(&self) -> Result<Vec<UserSummary>, StoreError> {
        self.read(users::users).await
    }

    pub(super) async fn change_password(
        &self,
        username: &str,
        hash: &str,
        changed_at: i64,
    ) -> Result<UserChange, StoreError> {
        let (hash, mark) = (hash.to_owned(), super::random_id()?);
        self.change_user(username, move |user| {
            user.password = hash;
            user.password_changed_at = Some(changed_at);
            user.password_mark = Some(mark);
        })
        .await
    }

    pub(super) async fn upgrade_password(&self, username: &str, stored: &str, hash: &str) -> Result<bool, StoreError> {
        let (username, stored, hash) = (username.to_owned(), stored.to_owned(), hash.to_owned());
        self.write(move |transaction| users::upgrade(transaction, &username, &stored, hash)).await
    }

    pub(super) async fn roles(&self, username: &str) -> Result<Option<StoredRoles>, StoreError> {
        let username = username.to_owned();
        self.read(move |transaction| users::roles(transaction, &username)).await
    }

    pub(super) async fn change_roles(&self, username: &str, change: &RolesChange) -> Result<RolesChanged, StoreError> {
        let (username, change) = (username.to_owned(), change.clone());
        self.write(move |transaction| users::change_roles(transaction, &username, &change)).await
    }

    pub(super) async fn account(&self, identity: &str, now: i64) -> Result<(AccountStatus, Fingerprint), StoreError> {
        let identity = identity.to_owned();
        let status = self.read(move |transaction| {
            let (since, mark, roles) = match users::account(transaction, &identity)? {
                AccountState::Active { since, mark, roles } => (since, mark, roles),
                AccountState::Disabled => return Ok(AccountStatus { disabled: true, ..AccountStatus::default() }),
                AccountState::Missing => return Ok(AccountStatus::default()),
            };
            Ok(AccountStatus {
                active: true,
                disabled: false,
                password_changed_at: Some(since.min(now)),
                password_mark: Some(mark),
                logged_out: logouts::of(transaction, &identity, now)?,
                roles,
            })
        });
        // No other process writes here, so there is nothing to compare.
        Ok((status.await?, Fingerprint::default()))
    }

    pub(super) async fn confirm_login(
        &self,
        username: &str,
        stored: &StoredPassword,
        now: i64,
    ) -> Result<Confirmed, StoreError> {
        let (username, stored) = (username.to_owned(), stored.clone());
        self.read(move |transaction| {
            let user = users::user(transaction, &username)?;
            let same = user.is_some_and(|user| user.password == stored);
            Ok(match users::account(transaction, &username)? {
                AccountState::Active { since, mark, roles } if same => {
                    Confirmed::Yes { password_changed_at: Some(since.min(now)), password_mark: mark, roles }
                }
                _ => Confirmed::Superseded,
            })
        })
        .await
    }

    pub(super) async fn log_out(&self, logout: &Logout, now: i64) -> Result<LoggedOut, StoreError> {
        let logout = logout.clone();
        self.write(move |transaction| logouts::store(transaction, &logout, now)).await
    }

    pub(super) async fn remove_expired_logouts(&self, now: i64) -> Result<(), StoreError> {
        if self.read(move |transaction| logouts::any_expired(transaction, now)).await? {
            self.write(move |transaction| logouts::remove_expired(transaction, now)).await?;
        }
        Ok(())
    }

    pub(super) async fn change_detection(&self) -> Result<ChangeDetection, StoreError> {
        Ok(ChangeDetection::LocalOnly)
    }

    pub(super) async fn fingerprints(
        &self,
        identities: &[Arc<str>],
        _now: i64,
    ) -> Result<HashMap<Arc<str>, Fingerprint>, StoreError> {
        Ok(identities.iter().map(|identity| (Arc::clone(identity), Fingerprint::default())).collect())
    }

    async fn change_user(
        &self,
        username: &str,
        change: impl FnOnce(&mut users::UserRow) + Send + 'static,
    ) -> Result<UserChange, StoreError> {
        let username = username.to_owned();
        self.write(move |transaction| users::change(transaction, &username, change)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let permit = acquire(&self.readers, self.timeout).await?;
        let reading = blocking(permit, move || file.read(work));
        match tokio::time::timeout(self.timeout, reading).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("the disk does not respond".to_owned())),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let permit = acquire(&self.writer, self.timeout).await?;
        blocking(permit, move || file.write(work)).await
    }

    /// Runs a write that publishes the days it may have changed when it has committed or failed.
    async fn write_days<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction, &TouchedDays) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (file, changed) = (Arc::clone(&self.file), Arc::clone(&self.changed));
        let permit = acquire(&self.writer, self.timeout).await?;
        blocking(permit, move || {
            let touched = TouchedDays::none(&changed);
            file.write(|transaction| work(transaction, &touched))
        })
        .await
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, timeout: Duration) -> Result<OwnedSemaphorePermit, StoreError> {
    match tokio::time::timeout(timeout, Arc::clone(semaphore).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(StoreError::Unavailable("another process has taken over the embedded store".to_owned())),
        Err(_) => Err(StoreError::Unavailable("too many operations are in progress".to_owned())),
    }
}

/// Runs `work` on a blocking thread. It holds the permit even if the caller is dropped.
async fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, redb::Error> + Send + 'static,
) -> Result<T, StoreError> {
    let running = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    match running.await {
        Ok(result) => result.map_err(|error| store_error(&error)),
        Err(_) => Err(StoreError::Failed("the embedded engine panicked at a damaged page".to_owned())),
    }
}

/// Converts an error of redb.
fn store_error(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            StoreError::Unavailable("no space left for the embedded store".to_owned())
        }
        // The file is being reopened: see `file`.
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StoreError::Unavailable("the embedded store is being reopened".to_owned())
        }
        error => StoreError::Failed(error.to_string()),
    }
}
