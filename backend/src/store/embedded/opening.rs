//! Opening the file without blocking the runtime, and after another process.

use std::path::Path;
use std::time::{Duration, Instant};

use super::file::StoreFile;
use crate::store::StoreError;

/// The pause before another attempt to lock the file.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How to open a file.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Opening {
    /// With a check of the whole file.
    Checked,
    /// After another process, which checked it when it opened it, and which may hold its lock for this time yet.
    After(Duration),
}

pub(super) async fn open(path: &Path, opening: Opening) -> Result<StoreFile, StoreError> {
    let (path, started) = (path.to_owned(), Instant::now());
    let opened = tokio::task::spawn_blocking(move || {
        let (check, within) = match opening {
            Opening::Checked => (true, Duration::ZERO),
            Opening::After(within) => (false, within),
        };
        loop {
            match StoreFile::open(&path, check) {
                Err(redb::Error::DatabaseAlreadyOpen) if started.elapsed() < within => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                opened => {
                    let unusable = |error| StoreError::Unusable(format!("{}: {error}", path.display()));
                    return opened.map_err(unusable);
                }
            }
        }
    });
    // redb can panic on a damaged file.
    opened.await.map_err(|_| StoreError::Unusable("the file is damaged".to_owned()))?
}
