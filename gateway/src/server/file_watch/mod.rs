//! Reloads the configuration when one of its files changes (`watch = true`).
//!
//! Folders are watched instead of files, since a file is usually replaced by a rename, or a link to it is, as Kubernetes
//! does it. A reload follows only if a file differs from the one that was read last. If the reload fails, the next change
//! leads to another.

mod notifier;
mod places;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use holodule_settings::Files;
use notifier::Notifier;
use rustix::io::Errno;

/// Watches the files of the configuration until it is dropped.
#[derive(Debug)]
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Watches `files` from their states on, and calls `reload` after a change. `read` returns the files that the current
    /// configuration names, with their states before it is read.
    ///
    /// A folder that cannot be watched is reported in the log, and its files are examined every 10 s.
    ///
    /// # Errors
    /// The thread cannot be started, or the limit of inotify instances or of open files is reached.
    pub fn start(
        files: Files,
        read: impl Fn() -> Files + Send + 'static,
        reload: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let notifier = Notifier::new()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let watch = Self(Arc::clone(&stopped));
        let run = move || {
            if let Err(error) = run(notifier, files, read, reload, &stopped) {
                tracing::error!(%error, "the files of the configuration are no longer watched");
            }
        };
        // A thread, since reading may block.
        thread::Builder::new().name("watch".to_owned()).spawn(run)?;
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(
    mut notifier: Notifier,
    mut files: Files,
    read: impl Fn() -> Files,
    reload: impl Fn(),
    stopped: &AtomicBool,
) -> Result<(), Errno> {
    loop {
        for (_, error) in notifier.follow(files.paths()) {
            // Without the folder: its path may be a misplaced secret.
            tracing::warn!(%error, "a folder of a configuration file cannot be watched; its files are examined every 10 s");
        }
        // After the watches were added, so that no change is missed.
        if files.have_changed() {
            notifier.settle()?;
            files = read();
            if stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            tracing::info!("a file of the configuration has changed");
            reload();
            continue;
        }
        notifier.wait()?;
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}
