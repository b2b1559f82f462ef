//! The files that settings are read from, and how to notice that one has changed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files with their states before they were read, by path. `Debug` does not show the paths.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<State>>);

/// What differs if a file was changed or replaced. Links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    /// The size, and the times of the last changes of content and of metadata in seconds and nanoseconds; `None` for a
    /// FIFO or a device, which only reading could change.
    content: Option<(u64, [i64; 4])>,
}

impl State {
    /// The state of the file at `path`; `None` if it cannot be accessed.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        let content = found.is_file().then_some((found.size(), times));
        Some(Self { device: found.dev(), inode: found.ino(), content })
    }
}

impl Files {
    /// Adds the file at `path`, which need not exist, with its current state. To be called before it is read.
    pub fn add(&mut self, path: &Path) {
        self.0.entry(path.to_owned()).or_insert_with(|| State::of(path));
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The paths. One may be a misplaced secret, so they must not be shown.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether a file has changed, was replaced, removed or created since its state was recorded.
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, state)| State::of(path) != *state)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("paths", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{hard_link, remove_file, rename, write};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(path("a"), "1").unwrap();
        write(path("b"), "1").unwrap();
        symlink("a", path("link")).unwrap();
        let changes: [(&str, &dyn Fn()); 6] = [
            ("written", &|| write(path("a"), "22").unwrap()),
            ("replaced by an equal one", &|| rename(path("b"), path("a")).unwrap()),
            ("another target of the link", &|| {
                write(path("c"), "22").unwrap();
                symlink("c", path("new")).unwrap();
                rename(path("new"), path("link")).unwrap();
            }),
            ("removed", &|| remove_file(path("c")).unwrap()),
            ("created", &|| hard_link(path("a"), path("c")).unwrap()),
            ("a missing file", &|| write(path("missing"), "").unwrap()),
        ];
        for (what, change) in changes {
            let mut files = Files::default();
            files.add(&path("link"));
            files.add(&path("missing"));
            assert!(!files.have_changed(), "{what}");
            change();
            assert!(files.have_changed(), "{what}");
            let mut again = Files::default();
            again.add(&path("link"));
            again.add(&path("missing"));
            assert!(!again.have_changed() && again != files, "{what}");
        }
    }

    #[test]
    fn the_first_state_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut files = Files::default();
        files.add(&path);
        write(&path, "").unwrap();
        files.add(&path);
        assert!(files.have_changed());
    }
}
