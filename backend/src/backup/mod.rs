//! Backups: one file with all users, holodules and logouts.
//!
//! The backend itself writes and reads the file, in a configured folder, so that stored passwords are never sent over
//! the network. The file has a format version and ends with a checksum: a truncated or damaged file is rejected before
//! anything is changed.

mod folder;
mod format;

pub use folder::{BackupFolder, BackupName, InvalidName, OpenError, Replacement};
pub use format::{BackupReader, BackupWriter, Damaged, Trailer, verify};
