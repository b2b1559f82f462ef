//! Signals of the operating system: SIGTERM and SIGINT stop the gateway, SIGHUP reloads its configuration.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

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

    /// Calls `reload` on each SIGHUP, until SIGTERM or SIGINT.
    ///
    /// It runs on a separate thread: reading may block, for example on a FIFO without a writer or a network file system,
    /// and the program must still stop.
    pub async fn wait(mut self, reload: impl Fn() + Send + 'static) {
        let (request, requests) = sync_channel(1);
        let run = move || requests.into_iter().for_each(|()| reload());
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(run) {
            tracing::error!(%error, "the configuration cannot be reloaded");
        }
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // If one is already queued, it will read the current files.
                _ = self.hangup.recv() => drop(request.try_send(())),
            }
        }
    }
}
