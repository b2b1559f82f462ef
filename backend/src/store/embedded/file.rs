//! The file of the embedded engine: how it is created, opened, and opened again.
//!
//! redb serves nothing more once a read or write of its file has failed, so after such an
//! error the file is closed and opened again: what a full disk refused succeeds as soon as
//! there is space, and reads continue meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, Error, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{CACHE_BYTES, FORMAT, META, holodules, logouts, users};
use crate::hex;

/// How the name of a file ends that is being created. The name begins with a dot and the name of
/// the store's file.
const DRAFT: &str = ".draft";

/// An open file, or one that could not be opened again yet.
pub(super) struct StoreFile {
    path: PathBuf,
    /// `None` after a failure, until it is open again.
    database: RwLock<Option<Database>>,
}

impl StoreFile {
    /// Opens the file, or creates it, readable by its owner alone.
    ///
    /// A file is created under another name and renamed once it is complete, so that an
    /// interrupted start leaves no file that cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        create_if_missing(path)?;
        // The check reads the whole file once; without it a damaged page shows only when it is read.
        let database = builder().set_check_integrity_on_open(true).create(path)?;
        prepare(&database)?;
        // Only now: a process that has the file open creates no draft.
        remove_drafts(path);
        Ok(Self { path: path.to_owned(), database: RwLock::new(Some(database)) })
    }

    /// Runs `work` on a snapshot.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|database| work(&database.begin_read()?))
    }

    /// A snapshot that outlives this call. It ends where the file has to be opened again.
    pub(super) fn snapshot(&self) -> Result<ReadTransaction, Error> {
        self.with(|database| Ok(database.begin_read()?))
    }

    /// Runs `work` in a transaction that is durable when this returns.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|database| commit(database, work))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        if self.is_closed() {
            self.reopen()?;
        }
        let done = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database),
            None => Err(Error::PreviousIo),
        };
        if let Err(error) = &done
            && needs_reopening(error)
            && let Err(error) = self.reopen()
        {
            tracing::error!(%error, "the embedded store is closed until it can be opened again");
        }
        done
    }

    fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes the file if it has failed, and opens it again. Waits for the operations under way.
    fn reopen(&self) -> Result<(), Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Another operation may have failed as well, and opened it again by now.
        if database.as_ref().is_some_and(is_readable) {
            return Ok(());
        }
        // The old one holds the lock of the file.
        drop(database.take());
        // Without the check, which writes: on a full disk the file is to be readable still.
        let reopened = builder().open(&self.path)?;
        *database = Some(reopened);
        tracing::warn!("the embedded store was opened again after an error of the disk");
        Ok(())
    }
}

/// Whether the file serves nothing more after this error.
fn needs_reopening(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::PreviousIo | Error::Backend(_))
}

fn is_readable(database: &Database) -> bool {
    // The pages in memory do not show it, but beginning to write does.
    database.begin_write().is_ok_and(|transaction| transaction.abort().is_ok())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn commit<T>(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
    let mut transaction = database.begin_write()?;
    // Commits in two phases, and a killed process opens its file again at once.
    transaction.set_quick_repair(true);
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Makes the tables, unless they are there.
fn prepare(database: &Database) -> Result<(), Error> {
    match format(database)? {
        None => commit(database, |transaction| {
            transaction.open_table(META)?.insert("format", FORMAT)?;
            holodules::create_tables(transaction)?;
            logouts::create_table(transaction)?;
            users::create_table(transaction)
        }),
        Some(FORMAT) => Ok(()),
        Some(other) => Err(Error::Corrupted(format!("format {other} is not {FORMAT}, which this version reads"))),
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
        Ok(metadata) if metadata.len() > 0 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let draft = Draft::create(path)?;
    draft.publish(path)?;
    Ok(())
}

/// A complete store under another name. Dropped, it is removed.
struct Draft(PathBuf);

impl Draft {
    fn create(path: &Path) -> Result<Self, Error> {
        let random = hex::random_id().map_err(io::Error::other)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = Self(path.with_file_name(format!(".{name}.{random}{DRAFT}")));
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft.0)?;
        prepare(&builder().create(&draft.0)?)?;
        // redb has synced what it wrote; the length of the file and its owner count as well.
        File::open(&draft.0)?.sync_all()?;
        Ok(draft)
    }

    /// Gives the draft its name, unless there is a store of that name by now.
    fn publish(&self, path: &Path) -> io::Result<()> {
        let published = match fs::hard_link(&self.0, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace_empty(&self.0, path),
            // A file system without hard links.
            Err(_) => fs::rename(&self.0, path),
            Ok(()) => Ok(()),
        };
        published?;
        // The name itself must survive a lost power supply too.
        File::open(folder(path))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone where it was renamed; else the next start removes it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Puts the draft in the place of an empty file, which an interrupted start of an earlier version
/// may have left. The lock of the empty file is held, so that of two processes only one does.
fn replace_empty(draft: &Path, path: &Path) -> io::Result<()> {
    let empty = OpenOptions::new().read(true).write(true).open(path)?;
    if empty.try_lock().is_err() {
        // Another process has it open, which is an error of its own later.
        return Ok(());
    }
    let (locked, named) = (empty.metadata()?, fs::metadata(path)?);
    let is_same = (locked.dev(), locked.ino()) == (named.dev(), named.ino());
    if is_same && locked.len() == 0 { fs::rename(draft, path) } else { Ok(()) }
}

/// Removes the drafts that interrupted starts have left.
fn remove_drafts(path: &Path) {
    let Some(name) = path.file_name().map(|name| format!(".{}.", name.to_string_lossy())) else { return };
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.strip_prefix(&name).is_some_and(|rest| rest.len() == 32 + DRAFT.len() && rest.ends_with(DRAFT)) {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
