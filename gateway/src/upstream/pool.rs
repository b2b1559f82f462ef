//! The connections to one backend that nobody uses, and the queue for one more.
//!
//! What is kept is a stack: the connection that was used last is the least likely to have been
//! closed, and those that are not needed get old and are closed. Nothing happens while the lock
//! is held but a push, a pop, or the sweep.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::{AbortHandle, coop};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Upstream;
use super::connection::Connection;

/// Unused connections that are kept, at most.
const MAX_UNUSED: usize = 256;

/// Between two sweeps, at most: a connection may be kept that much longer than it should.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Pool {
    upstream: Arc<Upstream>,
    shelf: Mutex<Shelf>,
    /// Tells the first in the queue that there is an unused connection.
    put_back: Notify,
    sweeper: OnceLock<AbortHandle>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The longest unused first.
    unused: Vec<Unused>,
    /// How many wait for a connection. While any do, nobody else takes one.
    waiting: usize,
    sweeps: u64,
}

#[derive(Debug)]
struct Unused {
    connection: Box<Connection>,
    /// The sweeps there had been when it was put back: to read a clock for each request costs more.
    since: u64,
}

/// A connection in use. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    pool: Arc<Pool>,
}

impl Lease {
    /// Gives the connection back, for the next request.
    pub(super) fn give_back(self) {
        self.pool.put(self.connection);
    }
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>) -> Arc<Self> {
        let (shelf, put_back) = (Mutex::default(), Notify::new());
        Arc::new(Self { upstream, shelf, put_back, sweeper: OnceLock::new() })
    }

    /// A connection: one that is unused, else a new one, for which there has to be room. Whoever
    /// waits for room is served in turn, and takes what is given back meanwhile.
    ///
    /// # Errors
    /// No connection within the connect timeout, or none at all.
    pub(super) async fn lease(self: &Arc<Self>) -> io::Result<Lease> {
        let connection = match self.take() {
            Ok(connection) => connection,
            // Seldom, and much larger than what happens otherwise.
            Err(place) => Box::pin(self.wait(place, false)).await?,
        };
        Ok(Lease { connection, pool: Arc::clone(self) })
    }

    /// A connection that is opened now: where a kept one was found closed, the others may be, too.
    ///
    /// # Errors
    /// As of [`Pool::lease`].
    pub(super) async fn lease_new(self: &Arc<Self>) -> io::Result<Lease> {
        let (oldest, place) = {
            let mut shelf = self.shelf();
            shelf.waiting += 1;
            // So that there is room.
            let oldest = if shelf.unused.is_empty() { None } else { Some(shelf.unused.remove(0)) };
            (oldest, Place(self))
        };
        drop(oldest);
        Ok(Lease { connection: Box::pin(self.wait(place, true)).await?, pool: Arc::clone(self) })
    }

    /// An unused connection, or a place in the queue.
    fn take(&self) -> Result<Box<Connection>, Place<'_>> {
        let mut shelf = self.shelf();
        let newest = if shelf.waiting == 0 { shelf.unused.pop() } else { None };
        newest.map(|unused| unused.connection).ok_or_else(|| {
            shelf.waiting += 1;
            drop(shelf);
            Place(self)
        })
    }

    async fn wait(self: &Arc<Self>, place: Place<'_>, is_new: bool) -> io::Result<Box<Connection>> {
        let limit = self.upstream.settings.connect_timeout;
        let connected = timeout(limit, async {
            match place.served(is_new).await? {
                Served::PutBack(connection) => Ok(connection),
                Served::Slot(slot) => Connection::open(&self.upstream, slot).await,
            }
        });
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect timeout");
        let connection = connected.await.map_err(late)??;
        self.sweeper.get_or_init(|| {
            let sweeping = sweep(Arc::downgrade(self), self.upstream.settings.idle_timeout);
            // It polls as many connections as there are, and only those.
            tokio::spawn(coop::unconstrained(sweeping)).abort_handle()
        });
        Ok(connection)
    }

    fn put(&self, connection: Box<Connection>) {
        let mut shelf = self.shelf();
        if shelf.unused.len() >= MAX_UNUSED || self.upstream.settings.idle_timeout.is_zero() {
            drop(shelf);
            drop(connection);
            return;
        }
        let since = shelf.sweeps;
        shelf.unused.push(Unused { connection, since });
        let is_awaited = shelf.waiting > 0;
        drop(shelf);
        if is_awaited {
            self.put_back.notify_one();
        }
    }

    /// Closes what has been unused for more than `most` sweeps, and what the backend has closed. It
    /// is polled for that, so whatever becomes of it wakes the sweeper from then on, and no longer
    /// the task of a request that has ended.
    fn sweep(&self, is_due: bool, most: u64, cx: &mut Context<'_>) {
        let mut shelf = self.shelf();
        shelf.sweeps += u64::from(is_due);
        let sweeps = shelf.sweeps;
        let is_over = |unused: &mut Unused| sweeps - unused.since > most || unused.connection.poll(cx).is_ready();
        let over: Vec<_> = shelf.unused.extract_if(.., is_over).collect();
        drop(shelf);
        drop(over);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
    }
}

/// Sweeps as often as `idle_timeout` asks for, and whenever a connection that it saw unused is
/// closed.
async fn sweep(pool: Weak<Pool>, idle_timeout: Duration) {
    let most = idle_timeout.as_nanos().div_ceil(SWEEP.as_nanos()).clamp(1, u32::MAX.into());
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let mut ticks = interval((idle_timeout / most).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    std::future::poll_fn(|cx| {
        let mut is_due = false;
        while ticks.poll_tick(cx).is_ready() {
            is_due = true;
        }
        let Some(pool) = pool.upgrade() else { return Poll::Ready(()) };
        pool.sweep(is_due, most.into(), cx);
        Poll::Pending
    })
    .await;
}

/// A place in the queue for a connection, which ends when it is dropped.
struct Place<'a>(&'a Pool);

/// What somebody in the queue got.
enum Served {
    /// A connection that somebody else no longer needs.
    PutBack(Box<Connection>),
    /// Room for one more.
    Slot(OwnedSemaphorePermit),
}

impl Place<'_> {
    /// Waits for its turn, for a slot alone where it `is_new`.
    async fn served(self, is_new: bool) -> io::Result<Served> {
        let Self(pool) = self;
        let mut slot = std::pin::pin!(Arc::clone(&pool.upstream.slots).acquire_owned());
        loop {
            tokio::select! {
                biased;
                slot = &mut slot => return slot.map(Served::Slot).map_err(io::Error::other),
                () = pool.put_back.notified(), if !is_new => {
                    let mut shelf = pool.shelf();
                    let unused = shelf.unused.pop();
                    // Two that were put back at once are told as one.
                    if !shelf.unused.is_empty() && shelf.waiting > 1 {
                        pool.put_back.notify_one();
                    }
                    drop(shelf);
                    if let Some(unused) = unused {
                        return Ok(Served::PutBack(unused.connection));
                    }
                }
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.shelf().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::{Address, Settings};

    /// Far more than anything here takes.
    const AGES: Duration = Duration::from_secs(60);

    const MAX_CONNECTIONS: usize = 2 * MAX_UNUSED;

    #[tokio::test]
    async fn what_is_put_back_at_once_is_kept_up_to_the_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            connect_timeout: AGES,
            read_timeout: AGES,
            request_timeout: AGES,
            idle_timeout: AGES,
            max_connections: u32::try_from(MAX_CONNECTIONS).unwrap(),
        };
        for (count, kept) in [(2, 2), (MAX_UNUSED, MAX_UNUSED), (MAX_UNUSED + 1, MAX_UNUSED)] {
            let address = Address::Inet(listener.local_addr().unwrap());
            let pool = Pool::new(Arc::new(Upstream::new("api", address, settings)));
            let mut leases = Vec::new();
            for _ in 0..count {
                let (lease, accepted) = tokio::join!(pool.lease_new(), listener.accept());
                // Nothing is sent on it.
                drop(accepted.unwrap());
                leases.push(lease.unwrap());
            }
            let others = leases.split_off(count / 2);
            thread::scope(|scope| {
                for leases in [leases, others] {
                    scope.spawn(move || leases.into_iter().for_each(Lease::give_back));
                }
            });
            assert_eq!(pool.shelf().unused.len(), kept);
            // The others are closed.
            assert_eq!(pool.upstream.slots.available_permits(), MAX_CONNECTIONS - kept);
        }
    }
}
