//! The new process's side of an upgrade.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{socket_acceptconn, socket_peercred};
use rustix::process::getuid;
use rustix::stdio::dup2_stdin;

use crate::channel::{Channel, Received};
use crate::draining::{Draining, Predecessor};
use crate::listening::{Address, Listening};
use crate::message::{Message, VERSION};
use crate::program::MARKER;

/// How long the predecessor may take to send its sockets.
const SOCKETS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take from the end of the predecessor's channel until its process has ended.
const ORPHANED_TIMEOUT: Duration = Duration::from_millis(200);

/// The maximum length of a reason, in bytes.
const REASON_BYTES: usize = 4096;

/// Why this process does not take over. It must exit.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The environment says that this process was started by an upgrade, but it was not.
    #[error("{MARKER} is set, but this process was not started by an upgrade: {0}")]
    NotStarted(&'static str),
    /// The predecessor is too different.
    #[error("the running process is of a version that cannot hand over to this one; restart it")]
    Version,
    /// The predecessor has given up.
    #[error("the running process has given up the upgrade")]
    GivenUp,
    /// The channel.
    #[error("the channel to the running process: {0}")]
    Io(#[from] io::Error),
}

/// An upgrade, in the new process.
#[derive(Debug)]
pub struct Takeover {
    channel: Channel,
    predecessor: u32,
    listeners: Vec<Listening>,
    draining: Arc<Draining>,
    extra: Option<OwnedFd>,
}

impl Takeover {
    /// Receives the sockets of the predecessor. `None` if this process was not started by an upgrade. Its standard input is
    /// the channel, and is replaced by `/dev/null`. Blocks for at most 10 s.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn begin() -> Result<Option<Self>, NotTaken> {
        let Some(marker) = std::env::var_os(MARKER) else { return Ok(None) };
        let predecessor = marker.to_str().and_then(|text| text.parse().ok());
        let predecessor = predecessor.ok_or(NotTaken::NotStarted("its value is not a process id"))?;
        if predecessor != parent_id() {
            return Err(NotTaken::NotStarted("its value is not the process id of the parent, which may have ended"));
        }
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        Self::receive(end, predecessor).map(Some)
    }

    /// Receives the sockets from `end` of the channel to the process `predecessor`.
    pub(crate) fn receive(end: OwnedFd, predecessor: u32) -> Result<Self, NotTaken> {
        let Ok(peer) = socket_peercred(&end) else {
            return Err(NotTaken::NotStarted("the standard input is not a socket"));
        };
        if u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(predecessor) || peer.uid != getuid() {
            return Err(NotTaken::NotStarted("the standard input belongs to another process"));
        }
        let channel = Channel::new(end);
        let (version, tags, (processes, has_channel), descriptors) =
            match channel.receive(Some(Instant::now() + SOCKETS_TIMEOUT))? {
                Received::Message(Message::Sockets { version, listeners, draining, has_channel }, descriptors) => {
                    (version, listeners, (draining, has_channel), descriptors)
                }
                Received::Message(..) => return Err(NotTaken::Version),
                Received::Closed | Received::TimedOut => return Err(NotTaken::GivenUp),
            };
        if version != VERSION || descriptors.len() != tags.len() + processes.len() + usize::from(has_channel) {
            return Err(NotTaken::Version);
        }
        let mut descriptors = descriptors.into_iter();
        let listeners = tags.into_iter().zip(descriptors.by_ref());
        let listeners: Vec<_> =
            listeners.map(|(tag, socket)| Listening { name: tag.name, address: tag.address, socket }).collect();
        for listener in &listeners {
            if !socket_acceptconn(&listener.socket).unwrap_or(false) {
                return Err(NotTaken::NotStarted("a descriptor is not a listening socket"));
            }
        }
        let draining = processes.into_iter().zip(descriptors.by_ref());
        let draining = draining.map(|(process, end)| Predecessor { process, channel: Channel::new(end) }).collect();
        let draining = Arc::new(Draining::new(draining));
        Ok(Self { channel, predecessor, listeners, draining, extra: descriptors.next() })
    }

    /// The process id of the predecessor.
    pub fn predecessor(&self) -> u32 {
        self.predecessor
    }

    /// The predecessors that still drain; from [`Takeover::ready`] on, also the one of this upgrade.
    pub fn draining(&self) -> Arc<Draining> {
        Arc::clone(&self.draining)
    }

    /// The TCP listener that was configured with this name and address, or else one that is bound to this address; `None`
    /// if the predecessor has none, so that this process must bind it.
    pub fn take_tcp(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let configured = Address::Tcp(address);
        let at = self.position(|listener| listener.name == name && listener.address == configured).or_else(|| {
            self.position(|listener| {
                let socket = listener.socket.try_clone().map(TcpListener::from);
                matches!(listener.address, Address::Tcp(_))
                    && socket.and_then(|socket| socket.local_addr()).is_ok_and(|bound| bound == address)
            })
        })?;
        Some(self.listeners.swap_remove(at).socket.into())
    }

    /// The listener on the Unix socket with this path.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.position(|listener| matches!(&listener.address, Address::Unix(bound) if bound == path))?;
        Some(self.listeners.swap_remove(at).socket.into())
    }

    /// The other end of [`Host::channel`](crate::Host::channel).
    pub fn take_channel(&mut self) -> Option<OwnedFd> {
        self.extra.take()
    }

    fn position(&self, is_wanted: impl Fn(&Listening) -> bool) -> Option<usize> {
        self.listeners.iter().position(is_wanted)
    }

    /// Requests what only one process can have open, and blocks until the predecessor has released it, or has ended.
    ///
    /// # Errors
    /// [`NotTaken`]: the predecessor has given up.
    pub fn request_release(&self) -> Result<(), NotTaken> {
        self.send(&Message::Release)?;
        self.expect(&Message::Released)
    }

    /// Reports why this process is not ready yet. The predecessor reports the last reason if it gives up.
    pub fn waiting(&self, reason: &str) {
        // If the predecessor has ended, `ready` reports it.
        let _ = self.channel.send(&Message::Waiting(shortened(reason)), &[]);
    }

    /// What reports a failure of this process, wherever that happens.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn reporter(&self) -> io::Result<Reporter> {
        Ok(Reporter(self.channel.try_clone()?))
    }

    /// Reports that this process can accept connections, and blocks until it may: it must do so immediately. Closes the
    /// listeners that were not taken. If the predecessor was killed, this process is the only one that has the sockets, and
    /// may accept.
    ///
    /// # Errors
    /// [`NotTaken`]: this process must not accept a connection.
    pub fn ready(self) -> Result<(), NotTaken> {
        self.ready_then(|| {})
    }

    /// The same, and calls `before` as soon as this process may accept connections, before the predecessor drains and exits.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn ready_then(mut self, before: impl FnOnce()) -> Result<(), NotTaken> {
        self.listeners.clear();
        self.send(&Message::Ready)?;
        self.expect(&Message::Go)?;
        before();
        // If the predecessor has ended since, there is no other process that serves.
        let _ = self.channel.send(&Message::Taken, &[]);
        self.draining.add(Predecessor { process: self.predecessor, channel: self.channel });
        Ok(())
    }

    fn send(&self, message: &Message) -> Result<(), NotTaken> {
        match self.channel.send(message, &[]) {
            // `expect` finds out why.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Waits for a message, or for the end of the predecessor.
    fn expect(&self, expected: &Message) -> Result<(), NotTaken> {
        match self.channel.receive(None)? {
            Received::Message(message, _) if message == *expected => Ok(()),
            Received::Message(..) => Err(NotTaken::Version),
            Received::Closed | Received::TimedOut if self.has_predecessor_ended() => Ok(()),
            Received::Closed | Received::TimedOut => Err(NotTaken::GivenUp),
        }
    }

    /// Whether the predecessor was killed. The channel of a predecessor that has given up is closed too, but that one kills
    /// this process at once.
    fn has_predecessor_ended(&self) -> bool {
        let until = Instant::now() + ORPHANED_TIMEOUT;
        loop {
            if self.predecessor != std::process::id() && parent_id() != self.predecessor {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            // The channel is closed slightly before this process gets another parent.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reports a failure of the new process to its predecessor.
#[derive(Debug)]
pub struct Reporter(Channel);

impl Reporter {
    /// Reports why this process is about to exit. No effect after it has taken over.
    pub fn failed(&self, reason: &str) {
        // If the predecessor has ended, there is no process to report to.
        let _ = self.0.send(&Message::Failed(shortened(reason)), &[]);
    }
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    let end = (0..=REASON_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end.min(text.len())).unwrap_or(text).to_owned()
}
