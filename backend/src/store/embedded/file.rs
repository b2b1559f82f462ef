//! The file of the embedded engine: creating, opening and reopening it.
//!
//! redb stops working after a failed read or write, so the file is then closed and opened again. After the disk was
//! full, writes succeed as soon as there is space; reads continue meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, Error, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{CACHE_BYTES, EARLIER_FORMAT, FORMAT, META, calendars, holodules, indexes, logouts, users};
use crate::hex;

/// The suffix of a file that is being created. Its name begins with a dot and the name of the store's file.
const DRAFT: &str = ".draft";
/// The log line when the file was opened again after a failure.
const AFTER_ERROR: &str = "the embedded store was reopened after a disk error";

/// A file that is open, or that could not be reopened yet.
pub(super) struct StoreFile {
    path: PathBuf,
    /// `None` after a failure until it is reopened.
    database: RwLock<Option<Database>>,
}

impl StoreFile {
    /// Opens the file, or creates it, readable by its owner only.
    ///
    /// It is created under another name and renamed when complete, so that an interrupted start leaves no unusable
    /// file.
    ///
    /// With `check`, the whole file is read once; otherwise, a damaged page is only noticed when it is read. Without
    /// it, an open takes milliseconds, whatever the size of the file.
    pub(super) fn open(path: &Path, check: bool) -> Result<Self, Error> {
        // If the path is a link, the link remains, and its target is created or replaced.
        let path = holodule_settings::resolved(path)?;
        create_if_missing(&path)?;
        let database = builder().set_check_integrity_on_open(check).create(&path)?;
        prepare(&database)?;
        // After the lock is held, no other process creates a draft.
        remove_drafts(&path);
        Ok(Self { path, database: RwLock::new(Some(database)) })
    }

    /// Runs `work` on a snapshot.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|database| work(&database.begin_read()?))
    }

    /// A snapshot that outlives this call. It ends when the file is reopened.
    pub(super) fn snapshot(&self) -> Result<ReadTransaction, Error> {
        self.with(|database| Ok(database.begin_read()?))
    }

    /// Runs `work` in a transaction that is durable when this returns.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|database| commit(database, work))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        if self.is_closed() {
            self.recover(AFTER_ERROR)?;
        }
        let done = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database),
            None => Err(Error::PreviousIo),
        };
        if let Err(error) = &done
            && needs_reopening(error)
            && let Err(error) = self.recover(AFTER_ERROR)
        {
            tracing::error!(%error, "the embedded store is closed until it can be reopened");
        }
        done
    }

    /// Closes the file, which releases its lock. Waits for operations in progress; snapshots end. The next operation
    /// opens it again.
    pub(super) fn close(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Opens the file if it is closed or has failed.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        self.recover("the embedded store was opened again")
    }

    fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes and reopens the file if it has failed, and logs `event`. Waits for operations in progress.
    fn recover(&self, event: &str) -> Result<(), Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Another operation may have failed too, and reopened it.
        if database.as_ref().is_some_and(is_readable) {
            return Ok(());
        }
        // The old handle holds the lock of the file.
        drop(database.take());
        // Without the check, which writes: the file must be readable on a full disk.
        let reopened = builder().open(&self.path)?;
        *database = Some(reopened);
        tracing::warn!("{event}");
        Ok(())
    }
}

/// Whether the file is unusable after this error.
fn needs_reopening(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::PreviousIo | Error::Backend(_))
}

fn is_readable(database: &Database) -> bool {
    // Cached pages do not show a failure, but starting to write does.
    database.begin_write().is_ok_and(|transaction| transaction.abort().is_ok())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn commit<T>(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
    let mut transaction = database.begin_write()?;
    // Two-phase commits; the file of a killed process can be opened without a repair.
    transaction.set_quick_repair(true);
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Creates the tables if they do not exist.
fn prepare(database: &Database) -> Result<(), Error> {
    match format(database)? {
        None => commit(database, |transaction| {
            transaction.open_table(META)?.insert("format", FORMAT)?;
            holodules::create_tables(transaction)?;
            indexes::create_tables(transaction)?;
            logouts::create_table(transaction)?;
            users::create_table(transaction)?;
            calendars::create_tables(transaction)
        }),
        // Older versions have none.
        Some(EARLIER_FORMAT | FORMAT) if !calendars::have_tables(&database.begin_read()?)? => {
            commit(database, calendars::create_tables)
        }
        Some(EARLIER_FORMAT | FORMAT) => Ok(()),
        Some(other) => Err(Error::Corrupted(format!(
            "format {other} is not {EARLIER_FORMAT} or {FORMAT}, which this version reads"
        ))),
    }
}

fn format(database: &Database) -> Result<Option<u64>, Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create_if_missing(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        // Most of these have a length of 0, like the empty file that is replaced below.
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file").into());
        }
        Ok(metadata) if metadata.len() > 0 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let draft = Draft::create(path)?;
    draft.publish(path)?;
    Ok(())
}

/// A complete store under a temporary name, removed when dropped.
struct Draft(PathBuf);

impl Draft {
    fn create(path: &Path) -> Result<Self, Error> {
        let random = hex::random_id().map_err(io::Error::other)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = Self(path.with_file_name(format!(".{name}.{random}{DRAFT}")));
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft.0)?;
        prepare(&builder().create(&draft.0)?)?;
        // redb syncs its writes; the length and owner of the file must be durable too.
        File::open(&draft.0)?.sync_all()?;
        Ok(draft)
    }

    /// Renames the draft, unless a store of that name exists by now.
    fn publish(&self, path: &Path) -> io::Result<()> {
        let published = match fs::hard_link(&self.0, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace_empty(&self.0, path),
            // The file system has no hard links.
            Err(_) => fs::rename(&self.0, path),
            Ok(()) => Ok(()),
        };
        published?;
        // The directory entry must survive a power failure too.
        File::open(folder(path))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone after a rename; otherwise the next start removes it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Replaces an empty file, which an interrupted start of an earlier version may have left. The lock of the empty file
/// is held, so that only one of two processes replaces it.
fn replace_empty(draft: &Path, path: &Path) -> io::Result<()> {
    let empty = OpenOptions::new().read(true).write(true).open(path)?;
    if empty.try_lock().is_err() {
        // Another process has it open, which opening it reports later.
        return Ok(());
    }
    let (locked, named) = (empty.metadata()?, fs::metadata(path)?);
    let is_same = (locked.dev(), locked.ino()) == (named.dev(), named.ino());
    if is_same && locked.len() == 0 { fs::rename(draft, path) } else { Ok(()) }
}

/// Removes drafts of interrupted starts.
fn remove_drafts(path: &Path) {
    let Some(name) = path.file_name().map(|name| format!(".{}.", name.to_string_lossy())) else { return };
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.strip_prefix(&name).is_some_and(|rest| rest.len() == 32 + DRAFT.len() && rest.ends_with(DRAFT)) {
            // A draft that cannot be removed is harmless.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
