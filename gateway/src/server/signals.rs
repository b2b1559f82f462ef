//! Signals of the operating system: SIGTERM and SIGINT stop the gateway, SIGHUP reloads its configuration.

use std::io;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::ReloadTrigger;

/// The installed signal handlers.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers. Signals are queued from now on, and are received by [`Signals::wait`] in any runtime.
    /// Must be called outside a runtime.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub fn catch() -> io::Result<Self> {
        // Tokio installs handlers only from within a runtime. The handlers remain when it is dropped.
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let _context = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Requests a reload on each SIGHUP, until SIGTERM or SIGINT.
    pub async fn wait(mut self, reload: ReloadTrigger) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload.request(),
            }
        }
    }
}
