//! The destination of an import's rejected rows.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holodule_settings::{Replacement, is_replaceable, resolved, shown_path};

use super::CommandError;
use crate::import::{Batch, write_rejects};

/// The destination of the rejects of one file.
#[derive(Debug)]
pub(super) enum Rejects {
    /// A regular file, which can be replaced or removed.
    File(PathBuf),
    /// A FIFO or a device, which is written once.
    Stream(PathBuf),
    /// Standard error.
    StandardError,
}

impl Rejects {
    /// The given destination or `FILE.rejects.csv`; standard error for a pipe, which has no folder.
    pub(super) fn of(file: &Path, is_pipe: bool, named: Option<&Path>) -> Result<Self, CommandError> {
        let place = match named {
            Some(named) => named.to_owned(),
            None if is_pipe => return Ok(Self::StandardError),
            None => {
                let mut name = file.as_os_str().to_owned();
                name.push(".rejects.csv");
                name.into()
            }
        };
        if !is_pipe
            && fs::metadata(&place).is_ok_and(|metadata| fs::metadata(file).is_ok_and(|of| same(&metadata, &of)))
        {
            return Err(match named {
                Some(_) => "--rejects is the imported file itself".into(),
                None => {
                    "the file for its rejects is a link to the imported file: remove the link or set --rejects".into()
                }
            });
        }
        Ok(if is_replaceable(&place)? { Self::File(place) } else { Self::Stream(place) })
    }

    /// The path of the rejects.
    pub(super) fn place(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Stream(path) => Some(path),
            Self::StandardError => None,
        }
    }

    /// Writes the rejects of the file, or removes those of an earlier run if there are none.
    pub(super) fn before_upload(&self, batch: &Batch) -> Result<(), CommandError> {
        let Self::File(path) = self else { return Ok(()) };
        let written = if batch.rejects.is_empty() {
            // If the path is a link, the link remains.
            match resolved(path).and_then(fs::remove_file) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        } else {
            write(path, batch)
        };
        written.map_err(|error| format!("{}: {error}", shown_path(path)).into())
    }

    /// Writes the rejects that [`Rejects::before_upload`] could not, or that the upload has added.
    pub(super) fn after_upload(&self, batch: &Batch, added: bool) -> Result<(), CommandError> {
        match self {
            _ if batch.rejects.is_empty() => Ok(()),
            Self::File(_) if added => self.before_upload(batch),
            Self::File(_) => Ok(()),
            Self::Stream(path) => write(path, batch).map_err(|error| format!("{}: {error}", shown_path(path)).into()),
            Self::StandardError => {
                let text = write_rejects(&batch.columns, &batch.rejects)?;
                match std::io::stderr().write_all(&text) {
                    // The exit status reports that rows were rejected, and other files must still be imported.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                    written => Ok(written?),
                }
            }
        }
    }
}

fn write(path: &Path, batch: &Batch) -> std::io::Result<()> {
    let text = write_rejects(&batch.columns, &batch.rejects).map_err(std::io::Error::other)?;
    let mut file = Replacement::begin(path)?;
    file.write_all(&text)?;
    file.commit()
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
