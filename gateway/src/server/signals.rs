//! Signals of the operating system: SIGTERM and SIGINT stop the gateway, SIGHUP reloads its configuration, SIGUSR2
//! upgrades it in place.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::reload::ReloadTrigger;

/// The installed signal handlers.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

/// Why the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// SIGTERM or SIGINT.
    Signal,
    /// A new process has taken over.
    Upgraded,
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
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Requests a reload on each SIGHUP and calls `upgrade` on each SIGUSR2, until SIGTERM or SIGINT, or until `upgrade`
    /// returns true: a new process has taken over.
    ///
    /// `upgrade` runs on a thread of its own, since it blocks. It is dropped once this has returned and no call is in
    /// progress.
    pub async fn wait(mut self, reload: ReloadTrigger, upgrade: impl Fn() -> bool + Send + 'static) -> Stopped {
        let (request_upgrade, requests) = sync_channel(1);
        let (upgraded, mut is_upgraded) = watch::channel(false);
        let run = move || {
            while requests.recv().is_ok() {
                if upgrade() {
                    upgraded.send_replace(true);
                    return;
                }
                // A request that arrived meanwhile has the same result.
                let _ = requests.try_recv();
            }
        };
        if let Err(error) = thread::Builder::new().name("upgrade".to_owned()).spawn(run) {
            tracing::error!(%error, "this process cannot be upgraded");
        }
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Stopped::Signal,
                _ = self.interrupt.recv() => return Stopped::Signal,
                _ = self.hangup.recv() => reload.request(),
                _ = self.upgrade.recv() => drop(request_upgrade.try_send(())),
                Ok(_) = is_upgraded.wait_for(|upgraded| *upgraded) => return Stopped::Upgraded,
            }
        }
    }
}
