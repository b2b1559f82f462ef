//! What the operating system tells the program: to stop, and to read the configuration again.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the program is told by.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn catch() -> io::Result<Self> {
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
