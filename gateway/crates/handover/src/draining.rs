//! The predecessors that still drain.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::channel::Channel;

/// How many old processes may drain at a time. Each still holds connections, and memory for them.
pub const MAX_DRAINING: usize = 2;

/// The predecessors of this process that have not exited yet.
#[derive(Default)]
pub struct Draining(Mutex<Vec<Predecessor>>);

/// A predecessor, with the channel that it keeps open until it exits.
pub(crate) struct Predecessor {
    pub(crate) process: u32,
    pub(crate) channel: Channel,
}

impl Draining {
    pub(crate) fn new(predecessors: Vec<Predecessor>) -> Self {
        Self(Mutex::new(predecessors))
    }

    /// The process ids of the predecessors that still drain, the oldest first.
    pub fn processes(&self) -> Vec<u32> {
        self.with(|all| all.iter().map(|predecessor| predecessor.process).collect())
    }

    /// Copies of the channels, with the process ids.
    pub(crate) fn channels(&self) -> io::Result<Vec<(u32, Channel)>> {
        self.with(|all| all.iter().map(|one| Ok((one.process, one.channel.try_clone()?))).collect())
    }

    pub(crate) fn add(&self, predecessor: Predecessor) {
        self.with(|all| all.push(predecessor));
    }

    /// Calls `f` with those that have not exited.
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Predecessor>) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|predecessor| !predecessor.channel.is_closed());
        f(&mut all)
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Draining").field(&self.processes()).finish()
    }
}
