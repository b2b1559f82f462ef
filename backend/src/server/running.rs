//! The running server, which can pause, continue, leave its connections to another process, or end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::accept::{Acceptor, OpenConnection, Status};
use super::connection::ConnectionContext;
use super::requests::Requests;
use super::{Drained, Listeners, Phase, Settings};
use crate::handler::App;
use crate::record::Listener;

/// Both listeners while they are served.
pub struct Server {
    app: Arc<App>,
    requests: Arc<Requests>,
    phase: watch::Sender<Phase>,
    api: Running,
    admin: Running,
    /// The connections for another process.
    left: mpsc::UnboundedReceiver<OpenConnection>,
}

/// A listener while it is served.
struct Running {
    task: JoinHandle<usize>,
    status: watch::Receiver<Status>,
    adopt: mpsc::UnboundedSender<OpenConnection>,
    socket: io::Result<OwnedFd>,
}

/// Adopts connections for a server.
#[derive(Clone, Debug)]
pub struct Adopter {
    api: mpsc::UnboundedSender<OpenConnection>,
    admin: mpsc::UnboundedSender<OpenConnection>,
}

impl Adopter {
    /// Serves a connection that another process has left.
    pub fn adopt(&self, connection: OpenConnection) {
        let listener = match connection.listener() {
            Listener::Api => &self.api,
            Listener::Admin => &self.admin,
        };
        // Without a receiver, the server has ended.
        let _ = listener.send(connection);
    }
}

impl Server {
    /// Starts to serve.
    pub fn start(listeners: Listeners, settings: &Settings, app: Arc<App>) -> Self {
        let (phase, phases) = watch::channel(Phase::Serve);
        let (leave, left) = mpsc::unbounded_channel();
        let requests = Arc::new(Requests::default());
        let run = |bound, listener, limits| {
            let context = ConnectionContext {
                app: Arc::clone(&app),
                listener,
                limits,
                requests: Arc::clone(&requests),
                phase: phases.clone(),
            };
            let socket = super::BoundListener::duplicate(&bound);
            let (adopt, adopted) = mpsc::unbounded_channel();
            let (acceptor, status) = Acceptor::new(bound, context, settings.drain, (adopted, leave.clone()));
            Running { task: tokio::spawn(acceptor.run()), status, adopt, socket }
        };
        let api = run(listeners.api, Listener::Api, settings.api);
        let admin = run(listeners.admin, Listener::Admin, settings.admin);
        Self { app, requests, phase, api, admin, left }
    }

    /// The listening sockets, api and admin, for another process.
    ///
    /// # Errors
    /// If the system cannot duplicate them.
    pub fn sockets(&self) -> io::Result<[OwnedFd; 2]> {
        let duplicate = |running: &Running| match &running.socket {
            Ok(socket) => socket.try_clone(),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        Ok([duplicate(&self.api)?, duplicate(&self.admin)?])
    }

    /// What adopts connections that another process has left.
    pub fn adopter(&self) -> Adopter {
        Adopter { api: self.api.adopt.clone(), admin: self.admin.adopt.clone() }
    }

    /// Waits until the requests that are in progress now have ended.
    pub async fn earlier_requests_ended(&self) {
        self.requests.earlier_ended().await;
    }

    /// Accepts no more, sets connections aside as soon as no request is in flight on them, and ends the feed. `true` if
    /// none is left within `within`: then nothing uses the store.
    pub async fn pause(&mut self, within: Duration) -> bool {
        self.app.stop();
        self.phase.send_replace(Phase::Pause);
        let is_quiet = |status: &Status| status.phase == Phase::Pause && status.open == 0;
        let quiet = async {
            // One after the other: the result holds a lock that the listener needs.
            self.api.status.wait_for(is_quiet).await.is_ok() && self.admin.status.wait_for(is_quiet).await.is_ok()
        };
        timeout(within, quiet).await.unwrap_or(false)
    }

    /// Continues after [`Server::pause`].
    pub fn resume(&self) {
        self.app.resume();
        self.phase.send_replace(Phase::Serve);
    }

    /// Ends, and passes each open connection to `pass` as soon as no request is in flight on it. The files of Unix
    /// sockets remain, since another process uses them.
    pub async fn leave(mut self, mut pass: impl AsyncFnMut(OpenConnection)) -> Drained {
        self.app.stop();
        self.phase.send_replace(Phase::Leave);
        while let Some(connection) = self.left.recv().await {
            pass(connection).await;
        }
        self.ended().await
    }

    /// Drains the requests in flight, and ends.
    pub async fn drain(self) -> Drained {
        self.app.stop();
        self.phase.send_replace(Phase::Drain);
        self.ended().await
    }

    async fn ended(self) -> Drained {
        let (api, admin) = tokio::join!(self.api.task, self.admin.task);
        Drained { cut: api.unwrap_or(0) + admin.unwrap_or(0) }
    }
}
