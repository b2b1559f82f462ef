//! The backup folder, and the names of its files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use holodule_settings::Replacement;
use rustix::fs::{Mode, OFlags};

/// The longest name, in bytes.
const NAME_LIMIT: usize = 128;

/// The name of a backup: 1 to 128 letters, digits, `.`, `_` and `-`, not beginning with `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupName(String);

/// An invalid backup name. The text is safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backup's name is 1 to {NAME_LIMIT} letters, digits, \".\", \"_\" and \"-\", and does not begin with \".\"")]
pub struct InvalidName;

impl BackupName {
    /// Parses a name, which is never a path.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=NAME_LIMIT).contains(&text.len()) && !text.starts_with('.');
        if fits && text.bytes().all(legal) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a backup cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file, link or folder of this name exists.
    #[error("a file of this name already exists")]
    Exists,
    /// The file does not exist.
    #[error("the file does not exist")]
    Missing,
    /// It is a link, folder, pipe or device.
    #[error("is not a regular file")]
    NotRegular,
    /// An I/O error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The folder with the backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFolder(PathBuf);

impl BackupFolder {
    /// The folder at this path, which must exist when it is used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Creates a backup that only its owner can read. It gets its name when it is complete.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if the name is taken, [`OpenError::Io`] if the folder is not writable.
    pub fn create(&self, name: &BackupName) -> Result<Replacement, OpenError> {
        let path = self.0.join(name.as_str());
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Replacement::begin(&path)?),
            Err(error) => Err(error.into()),
            Ok(_) => Err(OpenError::Exists),
        }
    }

    /// Opens a backup, without following links or blocking on a pipe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, name: &BackupName) -> Result<File, OpenError> {
        let path = self.0.join(name.as_str());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Err(OpenError::Missing),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(OpenError::NotRegular),
            Err(error) => return Err(OpenError::Io(error.into())),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(OpenError::NotRegular) }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn name(text: &str) -> BackupName {
        BackupName::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_never_a_path() {
        for good in ["a", "holodule-20270101T000000Z.backup", "a..b", "-", &"x".repeat(128)] {
            assert_eq!(name(good).as_str(), good);
        }
        for bad in
            ["", ".", "..", ".hidden", "a/b", "../a", "/etc/passwd", "a\\b", "a b", "a\0", "é", "a\n", &"x".repeat(129)]
        {
            assert_eq!(BackupName::parse(bad), Err(InvalidName), "{bad:?}");
        }
    }

    #[test]
    fn a_backup_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let backups = BackupFolder::new(folder.path());
        let mut file = backups.create(&name("a")).unwrap();
        file.write_all(b"x").unwrap();
        assert!(matches!(backups.open(&name("a")), Err(OpenError::Missing)), "it is not complete yet");
        file.commit().unwrap();
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(backups.create(&name("a")), Err(OpenError::Exists)));
        assert!(backups.open(&name("a")).is_ok());
        assert!(matches!(BackupFolder::new(folder.path().join("missing")).create(&name("a")), Err(OpenError::Io(_))));
    }

    #[test]
    fn links_folders_and_pipes_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let backups = BackupFolder::new(folder.path());
        fs::write(folder.path().join("real"), "x").unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        for other in ["link", "dangling", "folder", "fifo"] {
            assert!(matches!(backups.open(&name(other)), Err(OpenError::NotRegular)), "{other}");
            assert!(matches!(backups.create(&name(other)), Err(OpenError::Exists)), "{other}");
        }
    }
}
