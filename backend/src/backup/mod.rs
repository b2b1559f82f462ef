//! Backups: one file with all users, holodules and logouts.
//!
//! The server itself writes and reads the file, in a configured folder, so that stored passwords are never sent over
//! the network. The format has a version and ends with a checksum: a truncated or damaged file is rejected before
//! anything is changed.

mod folder;
mod format;

pub use folder::{BackupFolder, BackupName, InvalidName, OpenError, Replacement};
pub use format::{BackupReader, BackupWriter, Damaged, Trailer, verify};
