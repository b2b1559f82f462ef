//! The running process's side of an upgrade.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::channel::{Channel, Received};
use crate::draining::{Draining, MAX_DRAINING};
use crate::listening::Listening;
use crate::message::{Message, Tag, VERSION};
use crate::program::Program;

/// How long a process that reported its failure may take to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the running process does during an upgrade.
pub trait Host {
    /// Closes what only one process can have open. Called at most once, and only if the new process requests it.
    ///
    /// # Errors
    /// The reason, with which the upgrade fails.
    fn release(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// When the new process must be ready after [`Host::release`], if before the limit of the upgrade.
    fn ready_by(&self) -> Option<Instant> {
        None
    }

    /// Opens it again: the upgrade failed after [`Host::release`] was called. The new process has ended.
    fn restore(&mut self) {}

    /// A socket for what the two processes exchange besides the upgrade.
    fn channel(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Host for () {}

/// Why the running process continues to serve.
#[derive(Debug, thiserror::Error)]
pub enum NotUpgraded {
    /// This is process 1 of a container, which would end with it.
    #[error("this is process 1, and the container would end with it: replace the container instead")]
    FirstProcess,
    /// Too many predecessors still drain.
    #[error("{0} earlier processes still drain, at most {MAX_DRAINING} may: try again later")]
    Draining(usize),
    /// The program is stopping.
    #[error("this process is stopping")]
    Stopping,
    /// The new process could not be started.
    #[error("the new process cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The new process ended.
    #[error("the new process ended before it was ready ({status}){}", Reason(.reason))]
    Ended {
        /// Its exit status, or the signal that ended it.
        status: ExitStatus,
        /// What it reported.
        reason: Option<String>,
    },
    /// The new process was not ready in time, and was killed.
    #[error("the new process was not ready after {} s and was killed{}", .limit.as_secs_f64(), Reason(.reason))]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What it reported to wait for.
        reason: Option<String>,
    },
    /// [`Host::release`] failed.
    #[error("{0}")]
    NotReleased(String),
    /// The channel.
    #[error("the channel to the new process: {0}")]
    Channel(#[from] io::Error),
    /// A message that does not belong there.
    #[error("the new process does not follow the protocol")]
    Protocol,
}

impl NotUpgraded {
    /// Whether the upgrade was not attempted.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::FirstProcess | Self::Draining(_) | Self::Stopping)
    }
}

struct Reason<'a>(&'a Option<String>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Starts successors of this process.
#[derive(Debug)]
pub struct Upgrader {
    program: Program,
    draining: Arc<Draining>,
    limit: Duration,
    cancel: Cancel,
}

/// Ends an upgrade in progress, and refuses later ones.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The channel and the new process of the upgrade in progress, until its `go` is sent.
    attempt: Option<(Channel, Pid)>,
}

impl Cancel {
    /// Cancels. A new process that was not allowed to accept connections yet never will be: it is killed.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        if let Some((channel, process)) = state.attempt.take() {
            // Here, since the thread of the upgrade may not run again before this process exits. The process was not waited
            // for, so the id is still its own.
            let _ = kill_process(process, Signal::KILL);
            channel.shutdown();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upgrader {
    /// Starts `program`, which must be ready within `limit`. `draining` are the predecessors of this process.
    pub fn new(program: Program, draining: Arc<Draining>, limit: Duration) -> Self {
        Self { program, draining, limit, cancel: Cancel::default() }
    }

    /// Ends an upgrade from another thread.
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Starts the new process, passes `listeners` to it, and blocks until it accepts connections. Returns its process id.
    /// The caller must then stop accepting connections, drain the open ones and exit.
    ///
    /// # Errors
    /// [`NotUpgraded`]. The new process has ended without accepting a connection, so the caller continues to serve.
    pub fn upgrade(&self, listeners: &[Listening], host: &mut dyn Host) -> Result<u32, NotUpgraded> {
        if std::process::id() == 1 {
            return Err(NotUpgraded::FirstProcess);
        }
        let draining = self.draining.channels()?;
        if draining.len() >= MAX_DRAINING {
            return Err(NotUpgraded::Draining(draining.len()));
        }
        let deadline = Instant::now() + self.limit;
        let (channel, theirs) = Channel::pair()?;
        let child = {
            let mut state = self.cancel.lock();
            if state.cancelled {
                return Err(NotUpgraded::Stopping);
            }
            let copy = channel.try_clone()?;
            let child = self.program.command().stdin(theirs).spawn().map_err(NotUpgraded::Start)?;
            state.attempt = Some((copy, Pid::from_child(&child)));
            child
        };
        let attempt = Attempt { child, channel, limit: self.limit, deadline, cancel: &self.cancel, reason: None };
        attempt.run(listeners, &draining, host)
    }
}

/// One attempt.
struct Attempt<'a> {
    child: Child,
    channel: Channel,
    limit: Duration,
    deadline: Instant,
    cancel: &'a Cancel,
    /// The last reason that the new process reported.
    reason: Option<String>,
}

/// Why an attempt failed.
enum Fault {
    /// The new process has closed its end of the channel, or reported that it exits.
    Ended,
    TimedOut,
    NotReleased(String),
    Channel(io::Error),
    Protocol,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Ended,
            io::ErrorKind::InvalidData => Self::Protocol,
            _ => Self::Channel(error),
        }
    }
}

impl Attempt<'_> {
    fn run(
        mut self,
        listeners: &[Listening],
        draining: &[(u32, Channel)],
        host: &mut dyn Host,
    ) -> Result<u32, NotUpgraded> {
        let mut released = false;
        let result = self.pass(listeners, draining, host.channel()).and_then(|()| self.follow(host, &mut released));
        let Err(fault) = result else { return Ok(self.child.id()) };
        let status = self.end(matches!(fault, Fault::Ended));
        if released {
            host.restore();
        }
        let reason = self.reason;
        Err(match fault {
            _ if self.cancel.lock().cancelled => NotUpgraded::Stopping,
            Fault::Ended => NotUpgraded::Ended { status: status?, reason },
            Fault::TimedOut => NotUpgraded::TimedOut { limit: self.limit, reason },
            Fault::NotReleased(reason) => NotUpgraded::NotReleased(reason),
            Fault::Channel(error) => NotUpgraded::Channel(error),
            Fault::Protocol => NotUpgraded::Protocol,
        })
    }

    /// Sends the sockets.
    fn pass(
        &self,
        listeners: &[Listening],
        draining: &[(u32, Channel)],
        channel: Option<BorrowedFd<'_>>,
    ) -> Result<(), Fault> {
        let tag = |listener: &Listening| Tag { name: listener.name.clone(), address: listener.address.clone() };
        let message = Message::Sockets {
            version: VERSION,
            listeners: listeners.iter().map(tag).collect(),
            draining: draining.iter().map(|(process, _)| *process).collect(),
            has_channel: channel.is_some(),
        };
        let sockets = listeners.iter().map(|listener| listener.socket.as_fd());
        let descriptors = sockets.chain(draining.iter().map(|(_, channel)| channel.as_fd()));
        let descriptors: Vec<_> = descriptors.chain(channel).collect();
        Ok(self.channel.send(&message, &descriptors)?)
    }

    /// Returns once the new process accepts connections.
    fn follow(&mut self, host: &mut dyn Host, released: &mut bool) -> Result<(), Fault> {
        loop {
            match self.receive(Some(self.deadline))? {
                Message::Waiting(reason) => self.reason = Some(reason),
                Message::Failed(reason) => {
                    self.reason = Some(reason);
                    return Err(Fault::Ended);
                }
                Message::Release if !*released => {
                    *released = true;
                    host.release().map_err(Fault::NotReleased)?;
                    self.deadline = host.ready_by().map_or(self.deadline, |by| by.min(self.deadline));
                    self.channel.send(&Message::Released, &[])?;
                }
                Message::Ready => break,
                _ => return Err(Fault::Protocol),
            }
        }
        self.reason = None;
        {
            let mut state = self.cancel.lock();
            if state.cancelled {
                return Err(Fault::Ended);
            }
            // The new process takes the end of this channel for the exit of this process, so it is open until then.
            mem::forget(self.channel.try_clone()?);
            state.attempt = None;
            self.channel.send(&Message::Go, &[])?;
        }
        // No limit: the new process may accept connections from now on, so it must not be killed. Meanwhile this one
        // accepts them too.
        match self.receive(None)? {
            Message::Taken => Ok(()),
            _ => Err(Fault::Protocol),
        }
    }

    fn receive(&self, deadline: Option<Instant>) -> Result<Message, Fault> {
        match self.channel.receive(deadline)? {
            Received::Message(message, _) => Ok(message),
            Received::Closed => Err(Fault::Ended),
            Received::TimedOut => Err(Fault::TimedOut),
        }
    }

    /// Makes sure that the new process has ended. One that `is_exiting` may do so by itself, for its exit status.
    fn end(&mut self, is_exiting: bool) -> io::Result<ExitStatus> {
        // From here on the process is waited for, and its id may be another one's.
        let was_cancelled = self.cancel.lock().attempt.take().is_none();
        if is_exiting && !was_cancelled {
            // Its end of the channel is closed when it exits.
            let until = Instant::now() + EXIT_TIMEOUT;
            while matches!(self.channel.receive(Some(until)), Ok(Received::Message(..))) {}
            while Instant::now() < until {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.child.kill()?;
        self.child.wait()
    }
}

#[cfg(test)]
mod tests;
