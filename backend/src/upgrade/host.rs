//! The running process's side of an upgrade.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holodule_handover::{Cancel, Draining, History, Host, Listening, NotUpgraded, Program, Upgrader};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::connections::{self, Receiver, Sender};
use crate::record::Metrics;
use crate::server::{Address, Drained, Server};
use crate::store::{ClosedStore, Store};

/// The longest time that requests wait for the store, unless the disk is slow.
const PAUSE_LIMIT: Duration = Duration::from_secs(1);
/// How much of it the requests in flight may take. The rest is for the new process, to open the file.
const QUIET_TIMEOUT: Duration = Duration::from_millis(400);
/// The pause between attempts to pause, in which requests are served.
const RETRY: Duration = Duration::from_millis(200);
/// How often opening the file again is attempted. Each operation attempts it afterwards.
const REOPENINGS: u32 = 20;

/// Hands the sockets of a running process to successors.
pub struct Upgrades {
    upgrader: io::Result<Arc<Upgrader>>,
    store: Store,
    metrics: Arc<Metrics>,
    history: Arc<History>,
    /// The configured addresses, api and admin.
    addresses: [Address; 2],
    /// How long requests in flight may take.
    patience: Duration,
}

/// How an upgrade ended.
pub enum Outcome {
    /// This process continues to serve.
    Continues(Server),
    /// The process with this id serves; [`Left::leave`] is to be awaited.
    Left(u32, Left),
}

/// What is left of the server.
pub struct Left {
    server: Server,
    sender: Arc<Sender>,
}

impl Left {
    /// Passes the open connections to the successor, between two requests, and ends.
    pub async fn leave(self) -> Drained {
        let Self { server, sender } = self;
        let pass = async |connection| {
            let sender = Arc::clone(&sender);
            // After an error, the connection is closed: the successor has ended.
            let _ = spawn_blocking(move || sender.send(connection)).await;
        };
        server.leave(pass).await
    }
}

impl Upgrades {
    /// Starts `program` as the successor, which must be ready within `limit`. Requests in flight may take `drain`.
    pub fn new(
        program: io::Result<Program>,
        draining: Arc<Draining>,
        (limit, drain): (Duration, Duration),
        (store, metrics, history): (Store, Arc<Metrics>, Arc<History>),
        addresses: [Address; 2],
    ) -> Self {
        let upgrader = program.map(|program| Arc::new(Upgrader::new(program, draining, limit)));
        Self { upgrader, store, metrics, history, addresses, patience: drain.min(limit / 2) }
    }

    /// Ends an upgrade in progress. The successor then never accepts a connection.
    pub fn canceller(&self) -> Cancel {
        self.upgrader.as_ref().map(|upgrader| upgrader.canceller()).unwrap_or_default()
    }

    /// Starts a successor, which completes before it serves or after it has ended. Logs and counts the result.
    pub fn start(&self, server: Server) -> JoinHandle<Outcome> {
        let prepared = self.prepare(&server);
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        let (store, patience, runtime) = (self.store.clone(), self.patience, Handle::current());
        spawn_blocking(move || {
            tracing::info!("starting a new process to upgrade to");
            let failed = |server, error: &NotUpgraded| {
                let result = history.record(error);
                metrics.in_place().count(result);
                tracing::error!(%error, result, "not upgraded: this process continues to serve");
                Outcome::Continues(server)
            };
            let (upgrader, listeners, (sender, receiver)) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => return failed(server, &error),
            };
            let mut host = Closing { server, store, receiver, patience, runtime, closed: None, ready_by: None };
            match upgrader.upgrade(&listeners, &mut host) {
                Ok(process) => {
                    if let Some(closed) = host.closed {
                        closed.leave();
                    }
                    tracing::info!(successor = process, "upgraded: a new process serves");
                    Outcome::Left(process, Left { server: host.server, sender: Arc::new(sender) })
                }
                Err(error) => failed(host.server, &error),
            }
        })
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn prepare(&self, server: &Server) -> Result<(Arc<Upgrader>, Vec<Listening>, (Sender, Receiver)), NotUpgraded> {
        let upgrader = match &self.upgrader {
            Ok(upgrader) => Arc::clone(upgrader),
            Err(error) => return Err(NotUpgraded::Start(io::Error::new(error.kind(), error.to_string()))),
        };
        let names = ["api_addr", "admin_addr"].into_iter().zip(&self.addresses).zip(server.sockets()?);
        let listening = names.map(|((name, address), socket)| {
            let address = address.clone().into();
            Listening { name: name.to_owned(), address, socket }
        });
        Ok((upgrader, listening.collect(), connections::pair()?))
    }
}

impl From<Address> for holodule_handover::Address {
    fn from(address: Address) -> Self {
        match address {
            Address::Tcp(address) => Self::Tcp(address),
            Address::Unix(path) => Self::Unix(path),
        }
    }
}

/// Closes the store for the successor.
struct Closing {
    server: Server,
    store: Store,
    receiver: Receiver,
    patience: Duration,
    runtime: Handle,
    closed: Option<ClosedStore>,
    ready_by: Option<Instant>,
}

impl Closing {
    async fn close(&mut self) -> Result<(), String> {
        let give_up = Instant::now() + self.patience;
        loop {
            // Long requests first, while others are served.
            let left = give_up.saturating_duration_since(Instant::now());
            let has_last_chance = timeout(left, self.server.earlier_requests_ended()).await.is_err();
            let paused = Instant::now();
            let is_quiet = self.server.pause(QUIET_TIMEOUT).await;
            if is_quiet || has_last_chance {
                if !is_quiet {
                    tracing::warn!("requests in flight took too long; their store operations will fail");
                }
                let left = QUIET_TIMEOUT.saturating_sub(paused.elapsed()).max(QUIET_TIMEOUT / 4);
                match self.store.close(left).await {
                    Ok(closed) => {
                        self.closed = Some(closed);
                        self.ready_by = Some(paused + PAUSE_LIMIT);
                        return Ok(());
                    }
                    Err(error) if has_last_chance => return Err(error.to_string()),
                    Err(_) => {}
                }
            }
            self.server.resume();
            sleep(RETRY).await;
        }
    }

    async fn reopen(&mut self) {
        if let Some(closed) = self.closed.take() {
            for attempt in 1..=REOPENINGS {
                match closed.reopen().await {
                    Ok(()) => break,
                    Err(error) if attempt == REOPENINGS => tracing::error!(%error, "the store cannot be opened again"),
                    Err(_) => sleep(RETRY / 10).await,
                }
            }
        }
        self.server.resume();
    }
}

impl Host for Closing {
    fn release(&mut self) -> Result<(), String> {
        self.runtime.clone().block_on(self.close())
    }

    fn ready_by(&self) -> Option<Instant> {
        self.ready_by
    }

    fn restore(&mut self) {
        self.runtime.clone().block_on(self.reopen());
    }

    fn channel(&self) -> Option<BorrowedFd<'_>> {
        Some(self.receiver.socket())
    }
}
