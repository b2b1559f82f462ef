//! Backups: one file with every user, holodule and logout.
//!
//! The program that serves writes and reads the file itself, in a folder of its configuration:
//! stored passwords never leave by a listener. The format is versioned and ends with a checksum, so
//! that a file that was cut short or damaged is refused before anything is changed.

mod folder;
mod format;

pub use folder::{BackupFolder, BackupName, Draft, InvalidName, OpenError};
pub use format::{BackupReader, BackupWriter, Damaged, Trailer, verify};
