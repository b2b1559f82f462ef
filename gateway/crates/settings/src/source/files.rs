//! The files that settings are read from, besides that of the settings themselves.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Source;
use crate::files::Files;
use crate::secret::exposed;

impl Source {
    /// The files read from now on, without that of the table. It remains when this is finished.
    pub fn files(&self) -> Arc<Mutex<Files>> {
        Arc::clone(&self.files)
    }

    /// Records that the file at `path` is read next.
    pub fn reads(&self, path: &Path) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).add(path);
    }

    /// Records that the file at `path` is read next. Warns if others than the owner and group can read the file at `path`, which holds a secret, or others than the
    /// owner can change it.
    pub fn expect_private(&mut self, path: &Path) {
        self.reads(path);
        self.warnings.extend(exposed(path));
    }

    /// [`Source::expect_private`] for the configuration file itself.
    pub fn expect_private_file(&mut self) {
        if let Some(file) = self.file.clone() {
            self.expect_private(&file);
        }
    }
}
