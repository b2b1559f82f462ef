//! Waits for changes in folders, by inotify(7).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::places::places;

/// What can change which file a name denotes, or its content. A file counts as changed when it is closed after writing.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Events without a name: of the folder itself, or the loss of events.
const OF_FOLDER: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED)
    .union(ReadFlags::QUEUE_OVERFLOW);

/// The size of the buffer for events, in bytes. One needs at most 272.
const BUFFER_BYTES: usize = 4096;

/// How long the files that belong together may take to change: the next event within this time delays the reload.
const QUIET: Duration = Duration::from_millis(250);

/// The longest such delay.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// The interval at which files are examined that cannot be watched.
const EXAMINE_INTERVAL: Duration = Duration::from_secs(10);

/// Watches folders for changes of some names.
pub(super) struct Notifier {
    inotify: OwnedFd,
    /// The names that matter, by watch.
    names: HashMap<i32, BTreeSet<OsString>>,
    /// Whether a folder is not watched.
    is_incomplete: bool,
    /// The folders for which that was reported.
    reported: BTreeMap<PathBuf, Errno>,
}

impl Notifier {
    /// # Errors
    /// The limit of inotify instances or of open files is reached.
    pub(super) fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { inotify, names: HashMap::new(), is_incomplete: false, reported: BTreeMap::new() })
    }

    /// Watches every place where one of `paths` can change, and no others. Folders that cannot be watched are returned with
    /// the reason, once.
    pub(super) fn follow<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) -> Vec<(PathBuf, Errno)> {
        let before: Vec<i32> = self.names.drain().map(|(watch, _)| watch).collect();
        let mut failed = BTreeMap::new();
        // A path that is not absolute is one from the working directory.
        for place in paths.filter_map(|path| std::path::absolute(path).ok()).flat_map(|path| places(&path)) {
            match inotify::add_watch(&self.inotify, &place.folder, EVENTS | WatchFlags::ONLYDIR) {
                Ok(watch) => {
                    self.names.entry(watch).or_default().insert(place.name);
                }
                // A folder that may only be passed through is not expected to be replaced.
                Err(Errno::ACCESS) if !place.is_replaced => {}
                Err(error) => {
                    failed.insert(place.folder, error);
                }
            }
        }
        for watch in before.into_iter().filter(|watch| !self.names.contains_key(watch)) {
            // It fails if the folder is gone.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
        self.is_incomplete = !failed.is_empty();
        let new = |(folder, error): &(&PathBuf, &Errno)| self.reported.get(*folder) != Some(*error);
        let new = failed.iter().filter(new).map(|(folder, error)| (folder.clone(), *error)).collect();
        self.reported = failed;
        new
    }

    /// Waits until something has changed that matters. If not all folders are watched, also returns after
    /// [`EXAMINE_INTERVAL`].
    ///
    /// # Errors
    /// Of the operating system.
    pub(super) fn wait(&self) -> Result<(), Errno> {
        let until = self.is_incomplete.then(|| Instant::now() + EXAMINE_INTERVAL);
        loop {
            let has_events = self.poll(until.map(|until| until.saturating_duration_since(Instant::now())))?;
            if !has_events || self.read()? {
                return Ok(());
            }
        }
    }

    /// Waits until nothing has changed for [`QUIET`], at most for [`LONGEST_DELAY`].
    ///
    /// # Errors
    /// Of the operating system.
    pub(super) fn settle(&self) -> Result<(), Errno> {
        let end = Instant::now() + LONGEST_DELAY;
        let mut quiet = Instant::now() + QUIET;
        loop {
            let until = quiet.min(end);
            if !self.poll(Some(until.saturating_duration_since(Instant::now())))? {
                return Ok(());
            }
            if self.read()? {
                quiet = Instant::now() + QUIET;
            }
        }
    }

    /// Whether there are events within `timeout`; without one, waits for them.
    fn poll(&self, timeout: Option<Duration>) -> Result<bool, Errno> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        loop {
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], timeout.as_ref()) {
                Err(Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }

    /// Reads all events. Returns whether one matters.
    fn read(&self) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut matters = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let names = self.names.get(&event.wd());
                    let is_of_folder = event.events().intersects(OF_FOLDER)
                        && (names.is_some() || event.events().contains(ReadFlags::QUEUE_OVERFLOW));
                    matters |= is_of_folder || names.zip(name).is_some_and(|(names, name)| names.contains(name));
                }
                Err(Errno::WOULDBLOCK) => return Ok(matters),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, rename, write};

    use super::*;

    #[test]
    fn only_changes_of_the_names_matter_and_those_before_it_settles_count_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        create_dir(path("a")).unwrap();
        let mut notifier = Notifier::new().unwrap();
        assert_eq!(notifier.follow([path("a/cert"), path("a/key")].iter().map(PathBuf::as_path)), []);
        write(path("a/other"), "").unwrap();
        assert_eq!(notifier.read(), Ok(false));
        write(path("a/draft"), "").unwrap();
        rename(path("a/draft"), path("a/cert")).unwrap();
        write(path("a/key"), "").unwrap();
        notifier.wait().unwrap();
        notifier.settle().unwrap();
        assert_eq!(notifier.read(), Ok(false));
        for change in ["b", "c"] {
            // The folder itself.
            rename(path("a"), path(change)).unwrap();
            create_dir(path("a")).unwrap();
            notifier.wait().unwrap();
            notifier.settle().unwrap();
            assert_eq!(notifier.follow([path("a/cert")].iter().map(PathBuf::as_path)), []);
            write(path("a/cert"), "").unwrap();
            assert_eq!(notifier.read(), Ok(true));
        }
    }

    #[test]
    fn a_missing_folder_is_reported_once_and_watched_when_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("missing/cert")];
        let mut notifier = Notifier::new().unwrap();
        let failed = notifier.follow(files.iter().map(PathBuf::as_path));
        assert_eq!(failed.iter().map(|(_, error)| *error).collect::<Vec<_>>(), [Errno::NOENT]);
        assert_eq!(notifier.follow(files.iter().map(PathBuf::as_path)), []);
        assert!(notifier.is_incomplete);
        create_dir(folder.path().join("missing")).unwrap();
        assert_eq!(notifier.read(), Ok(true));
        assert_eq!(notifier.follow(files.iter().map(PathBuf::as_path)), []);
        assert!(!notifier.is_incomplete);
        write(&files[0], "").unwrap();
        assert_eq!(notifier.read(), Ok(true));
    }
}
