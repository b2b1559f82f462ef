//! The connections of all clients to one backend: how many are open, which are idle, and which requests wait for one.
//!
//! While a request waits, no connection is idle and the maximum is open. So a connection or slot that becomes free is
//! given to the request that has waited longest. Clients run on separate threads and cannot use each other's connections,
//! so an idle connection of one is closed to make room for another. The connections of an exempt client, such as the
//! health probe, are not: it must not fail because of the load of others.
//!
//! While the lock is held, only a push, a pop or the sweep happens. No connection or slot is dropped then, since that
//! takes the lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::Settings;

/// The maximum number of idle connections of one client.
pub(super) const MAX_IDLE: usize = 256;

/// A connection, which occupies a slot while it is open.
pub(super) trait Occupant: Sized {
    /// Reads and writes what is ready. `Ready` when the connection is closed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Closes the connection.
    fn into_slot(self: Box<Self>) -> ConnectionSlot<Self>;
}

/// The connections to one backend.
#[derive(Debug)]
pub(super) struct Slots<C> {
    /// The maximum number of open connections.
    max_open: usize,
    /// The maximum number of idle connections of each client to each address.
    max_idle: usize,
    /// The maximum number of requests in the queue.
    max_waiting: usize,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    /// Including those being opened.
    open: usize,
    /// By client and address.
    idle: Vec<Stack<C>>,
    /// Ordered by number.
    waiting: VecDeque<Waiter<C>>,
    last_number: u64,
}

/// The idle connections of one client to one address, the longest idle first. The one that was used last is reused
/// first, since it is the least likely to be closed.
#[derive(Debug)]
struct Stack<C> {
    connections: Vec<Idle<C>>,
    sweeps: u64,
    /// Whether they are never closed for another client.
    is_exempt: bool,
    client: usize,
    /// The position of the address.
    place: usize,
}

#[derive(Debug)]
struct Idle<C> {
    connection: Box<C>,
    /// The number of sweeps when it was released, which is cheaper than reading a clock for each request.
    since: u64,
}

#[derive(Debug)]
struct Waiter<C> {
    number: u64,
    /// The stack whose connections it takes.
    stack: usize,
    /// The client whose connections to any address it takes.
    any_of: Option<usize>,
    served: oneshot::Sender<Grant<C>>,
}

/// The right to have one connection open, returned when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot<C>(Arc<Slots<C>>);

/// The immediate result of a request for a connection.
#[derive(Debug)]
pub(super) enum Acquired<C> {
    /// A connection or a slot.
    Now(Grant<C>),
    /// A place in the queue.
    Queued(QueuePlace<C>),
    /// The queue is full.
    Full,
}

/// The final result of a request for a connection.
#[derive(Debug)]
pub(super) enum Grant<C> {
    /// An idle connection, and the number of its stack.
    Idle(Box<C>, usize),
    /// A slot for a new connection.
    New(ConnectionSlot<C>),
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(super) struct QueuePlace<C> {
    slots: Arc<Slots<C>>,
    number: u64,
    served: oneshot::Receiver<Grant<C>>,
}

impl<C> Slots<C> {
    /// The slots, with a queue of at most `max_waiting` requests.
    pub(super) fn new(settings: &Settings, max_waiting: usize) -> Arc<Self> {
        let max_open = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
        let max_idle = if settings.idle_timeout.is_zero() { 0 } else { MAX_IDLE };
        Arc::new(Self { max_open, max_idle, max_waiting, state: Mutex::default() })
    }

    /// Registers a client of a backend with `addresses`, and returns the number of its stack for the first of them; those
    /// for the others follow. Connections of one that `is_exempt` are never closed for others.
    pub(super) fn join(&self, is_exempt: bool, addresses: usize) -> usize {
        let mut state = self.state();
        let client = state.idle.len();
        state.idle.extend((0..addresses).map(|place| Stack { is_exempt, client, place, ..Stack::default() }));
        client
    }

    /// Closes the idle connections of a client that is dropped.
    pub(super) fn leave(&self, client: usize) {
        self.close_idle(|stack| stack.client == client);
    }

    /// Closes the idle connections of all clients to the address at `place`.
    pub(super) fn close_idle_to(&self, place: usize) {
        self.close_idle(|stack| stack.place == place);
    }

    fn close_idle(&self, is_left: impl Fn(&Stack<C>) -> bool) {
        let mut state = self.state();
        let left = state.idle.iter_mut().filter(|stack| is_left(stack));
        let left: Vec<_> = left.flat_map(|stack| std::mem::take(&mut stack.connections)).collect();
        drop(state);
        drop(left);
    }

    /// A connection of `stack`: the one that was used last, otherwise a slot, otherwise a place in the queue, where a
    /// connection of the same client to another address will do if it `takes_any`. A request whose connection was closed
    /// passes the `slot` of that, and does not wait.
    pub(super) fn take(self: &Arc<Self>, stack: usize, slot: Option<ConnectionSlot<C>>, takes_any: bool) -> Acquired<C>
    where
        C: Occupant,
    {
        let mut state = self.state();
        let is_free = state.waiting.is_empty();
        let own = state.stack(stack).filter(|stack| is_free || stack.is_exempt);
        if let Some(idle) = own.and_then(|stack| stack.connections.pop()) {
            drop(state);
            drop(slot);
            return Acquired::Now(Grant::Idle(idle.connection, stack));
        }
        if let Some(slot) = slot {
            return Acquired::Now(Grant::New(slot));
        }
        if state.open < self.max_open {
            state.open += 1;
            return Acquired::Now(Grant::New(ConnectionSlot(Arc::clone(self))));
        }
        if let Some(idle) = state.longest_idle() {
            drop(state);
            return Acquired::Now(Grant::New(idle.connection.into_slot()));
        }
        if state.waiting.len() >= self.max_waiting {
            return Acquired::Full;
        }
        state.last_number += 1;
        let number = state.last_number;
        let (sender, served) = oneshot::channel();
        let any_of = state.stack(stack).filter(|_| takes_any).map(|stack| stack.client);
        state.waiting.push_back(Waiter { number, stack, any_of, served: sender });
        Acquired::Queued(QueuePlace { slots: Arc::clone(self), number, served })
    }

    /// Gives a connection of `stack` to the request that has waited longest, or adds it to the idle ones.
    pub(super) fn put(&self, stack: usize, connection: Box<C>) {
        let mut state = self.state();
        let client = state.stack(stack).map(|stack| stack.client);
        let takes = |waiter: &mut Waiter<C>| waiter.stack == stack || client.is_some() && waiter.any_of == client;
        let unwanted = match state.waiting.pop_front_if(takes) {
            Some(waiter) => waiter.served.send(Grant::Idle(connection, stack)).err(),
            None => state.add_idle(stack, connection, self.max_idle).map(|unwanted| Grant::Idle(unwanted, stack)),
        };
        drop(state);
        drop(unwanted);
    }

    /// Closes connections of `client` that have been idle for more than `most` sweeps or that the backend has closed.
    /// Each is polled, so from then on its events wake the sweeper and no longer the task of a request that has ended.
    pub(super) fn sweep(&self, client: usize, is_due: bool, most: u64, cx: &mut Context<'_>)
    where
        C: Occupant,
    {
        let mut state = self.state();
        let mut over = Vec::new();
        for stack in state.idle.iter_mut().skip(client).take_while(|stack| stack.client == client) {
            stack.sweeps += u64::from(is_due);
            let sweeps = stack.sweeps;
            let is_over = |idle: &mut Idle<C>| sweeps - idle.since > most || idle.connection.poll(cx).is_ready();
            over.extend(stack.connections.extract_if(.., is_over));
        }
        drop(state);
        drop(over);
    }

    /// The number of requests in the queue for the address at `place`.
    pub(super) fn count_waiting(&self, place: usize) -> usize {
        let state = self.state();
        let is_there = |waiter: &&Waiter<C>| state.idle.get(waiter.stack).is_some_and(|stack| stack.place == place);
        state.waiting.iter().filter(is_there).count()
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.state();
        let unwanted = match state.waiting.pop_front() {
            Some(waiter) => waiter.served.send(Grant::New(ConnectionSlot(Arc::clone(self)))).err(),
            None => {
                state.open -= 1;
                None
            }
        };
        drop(state);
        drop(unwanted);
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Default for State<C> {
    fn default() -> Self {
        Self { open: 0, idle: Vec::new(), waiting: VecDeque::new(), last_number: 0 }
    }
}

impl<C> Default for Stack<C> {
    fn default() -> Self {
        Self { connections: Vec::new(), sweeps: 0, is_exempt: false, client: 0, place: 0 }
    }
}

impl<C> State<C> {
    fn stack(&mut self, number: usize) -> Option<&mut Stack<C>> {
        self.idle.get_mut(number)
    }

    /// Removes the longest idle connection of the stack that has the most.
    fn longest_idle(&mut self) -> Option<Idle<C>> {
        let stacks = self.idle.iter_mut().filter(|stack| !stack.is_exempt);
        let stack = stacks.max_by_key(|stack| stack.connections.len())?;
        if stack.connections.is_empty() { None } else { Some(stack.connections.remove(0)) }
    }

    /// Adds an idle connection, or returns it if there are `most` already or a request that cannot use it waits for its
    /// slot.
    fn add_idle(&mut self, stack: usize, connection: Box<C>, most: usize) -> Option<Box<C>> {
        let is_awaited = !self.waiting.is_empty();
        match self.stack(stack) {
            Some(stack) if stack.connections.len() < most && (stack.is_exempt || !is_awaited) => {
                let since = stack.sweeps;
                stack.connections.push(Idle { connection, since });
                None
            }
            _ => Some(connection),
        }
    }
}

impl<C> Drop for ConnectionSlot<C> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<C> QueuePlace<C> {
    /// Waits for its turn. `None` does not occur.
    pub(super) async fn served(mut self) -> Option<Grant<C>> {
        (&mut self.served).await.ok()
    }
}

impl<C> Drop for QueuePlace<C> {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        let place = state.waiting.binary_search_by_key(&self.number, |waiter| waiter.number);
        let left = place.ok().and_then(|place| state.waiting.remove(place));
        drop(state);
        // It may have been served at the moment it was given up.
        if left.is_none()
            && let Ok(Grant::Idle(connection, stack)) = self.served.try_recv()
        {
            self.slots.put(stack, connection);
        }
    }
}

#[cfg(test)]
impl<C> Slots<C> {
    /// The number of open connections, and of idle ones among them.
    pub(super) fn figures(&self) -> (usize, usize) {
        let state = self.state();
        (state.open, state.idle.iter().map(|stack| stack.connections.len()).sum())
    }
}
