//! Upgrades in place: this gateway takes over the listening sockets of its predecessor, and hands its own to a successor.

use std::future::pending;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holodule_handover::{Address, Cancel, Draining, History, Listening, NotTaken, Program, Takeover, Upgrader};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::readiness::Readiness;
use super::{Addresses, announce};
use crate::listener;
use crate::record::Metrics;
use crate::revocation::Revocation;

/// How long the public listener waits for the revocation feed at startup.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a new gateway checks whether it is ready.
const INTERVAL: Duration = Duration::from_millis(20);

/// Which process serves the ops and the redirect listener. The public listener has its own signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The predecessor.
    Preparing,
    /// This process.
    Serving,
    /// The successor.
    Left,
}

/// Provides the listening sockets, from the predecessor if it has them.
pub(super) struct Sockets<'a> {
    pub(super) takeover: Option<&'a mut Takeover>,
    /// Copies for the successor.
    pub(super) copies: Vec<Listening>,
}

impl Sockets<'_> {
    /// The listener of the key `name`, on `address`.
    pub(super) fn listen(&mut self, name: &str, address: SocketAddr) -> io::Result<TcpListener> {
        let inherited = self.takeover.as_mut().and_then(|takeover| takeover.take_tcp(name, address));
        let socket = match inherited {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                socket
            }
            None => listener::bind(address)?,
        };
        let copy = socket.try_clone()?.into();
        self.copies.push(Listening { name: name.to_owned(), address: Address::Tcp(address), socket: copy });
        Ok(socket)
    }
}

/// What a gateway does before it takes over.
pub(super) struct Preparation {
    pub(super) takeover: Takeover,
    pub(super) readiness: Readiness,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    /// Where the addresses are announced afterwards.
    pub(super) announce: Option<PathBuf>,
    pub(super) addresses: Addresses,
    pub(super) metrics: Arc<Metrics>,
}

impl Preparation {
    /// Returns once this gateway is ready and its predecessor has let it accept connections.
    pub(super) async fn take_over(self) -> Result<(), NotTaken> {
        let Self { takeover, readiness, phase, announce: file, addresses, metrics } = self;
        let mut reported = None;
        while let Some(reason) = readiness.missing() {
            if reported.as_ref() != Some(&reason) {
                takeover.waiting(&reason);
                reported = Some(reason);
            }
            sleep(INTERVAL).await;
        }
        let predecessor = takeover.predecessor();
        // Not before, since the file is the predecessor's until then; and not after it exits, so that the process in it
        // always serves.
        let announcement = move || {
            if let Some(Err(error)) = file.map(|file| announce(&file, addresses)) {
                tracing::error!(%error, "the addresses could not be announced");
            }
        };
        spawn_blocking(move || takeover.ready_then(announcement)).await.map_err(io::Error::other)??;
        phase.send_replace(Phase::Serving);
        metrics.upgrades().count("succeeded");
        tracing::info!(predecessor, https = %addresses.https, ops = %addresses.ops, "serving after an upgrade");
        Ok(())
    }
}

/// Resolves once this gateway should accept connections; never if it was to take over from another process and must not.
pub(super) async fn ready(preparation: Option<Preparation>, revocation: Option<Revocation>, given_up: GivenUp) {
    if let Some(preparation) = preparation {
        // Without a limit: the predecessor has one, and serves meanwhile.
        if let Err(error) = preparation.take_over().await {
            given_up.set(error);
            pending::<()>().await;
        }
        return;
    }
    let Some(revocation) = revocation else { return };
    if timeout(ACCEPT_TIMEOUT, revocation.first_beat()).await.is_err() {
        tracing::warn!("the revocation feed is not connected; accepting connections without it");
    }
}

/// Whether this process has given up the takeover.
#[derive(Clone, Default)]
pub(super) struct GivenUp(Arc<(Mutex<Option<NotTaken>>, Notify)>);

impl GivenUp {
    pub(super) fn set(&self, error: NotTaken) {
        if let Ok(mut place) = self.0.0.lock() {
            *place = Some(error);
        }
        self.0.1.notify_one();
    }

    /// Resolves once it has.
    pub(super) async fn wait(&self) {
        self.0.1.notified().await;
    }

    pub(super) fn into_result(self) -> Result<(), NotTaken> {
        self.0.0.lock().ok().and_then(|mut error| error.take()).map_or(Ok(()), Err)
    }
}

/// Hands the sockets of a running gateway to a successor. The sockets stay open as long as this exists.
pub struct Upgrades {
    upgrader: Upgrader,
    sockets: Vec<Listening>,
    phase: Arc<watch::Sender<Phase>>,
    history: Arc<History>,
    metrics: Arc<Metrics>,
}

/// What [`Upgrades`] needs of the gateway.
pub(super) struct Own {
    pub(super) sockets: Vec<Listening>,
    pub(super) draining: Arc<Draining>,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    pub(super) history: Arc<History>,
    pub(super) metrics: Arc<Metrics>,
    /// How long a successor may take until it is ready.
    pub(super) limit: Duration,
}

impl Upgrades {
    /// Takes the sockets out of `own`.
    pub(super) fn new(program: Program, own: &mut Own) -> Self {
        Self {
            upgrader: Upgrader::new(program, Arc::clone(&own.draining), own.limit),
            sockets: mem::take(&mut own.sockets),
            phase: Arc::clone(&own.phase),
            history: Arc::clone(&own.history),
            metrics: Arc::clone(&own.metrics),
        }
    }

    /// Starts the successor and blocks until it serves. Returns its process id, after which the gateway must be stopped, or
    /// `None` if this one continues to serve. Logs and counts the result.
    pub fn upgrade(&self) -> Option<u32> {
        tracing::info!("starting a new process to upgrade to");
        match self.upgrader.upgrade(&self.sockets, &mut ()) {
            Ok(process) => {
                tracing::info!(successor = process, "upgraded: a new process serves");
                self.phase.send_replace(Phase::Left);
                Some(process)
            }
            Err(error) => {
                let result = self.history.record(&error);
                self.metrics.upgrades().count(result);
                tracing::error!(%error, result, "not upgraded: this process continues to serve");
                None
            }
        }
    }

    /// Ends an upgrade from another thread. The successor then never accepts a connection.
    pub fn canceller(&self) -> Cancel {
        self.upgrader.canceller()
    }
}
