//! The connections of one client to its backend: opened on demand, reused, and closed after the idle timeout.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::task::{AbortHandle, coop};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Upstream;
use super::connection::{ClosedConnection, Connection};
use super::slots::{Acquired, ConnectionSlot, Grant};

/// The maximum time between two sweeps, by which a connection may exceed the idle timeout.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Pool {
    upstream: Arc<Upstream>,
    /// The number of the client among those of this backend.
    number: usize,
    sweeper: OnceLock<AbortHandle>,
}

/// A connection in use. It is closed when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    pool: Arc<Pool>,
}

impl Lease {
    /// The name of the upstream.
    pub(super) fn upstream(&self) -> &'static str {
        self.pool.upstream.name
    }

    /// Returns the connection to the pool.
    pub(super) fn release(self) {
        self.pool.upstream.slots.put(self.pool.number, self.connection);
    }

    /// Closes the connection.
    pub(super) fn close(self) -> ClosedConnection {
        self.connection.close()
    }
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, is_exempt: bool) -> Arc<Self> {
        let number = upstream.slots.join(is_exempt);
        Arc::new(Self { upstream, number, sweeper: OnceLock::new() })
    }

    /// A connection: an idle one, otherwise a new one in a free slot. Requests that wait for a slot are served in turn. A
    /// request whose connection was closed reuses the `slot` of that.
    ///
    /// # Errors
    /// No connection within the connect timeout, or connecting failed.
    pub(super) async fn lease(
        self: &Arc<Self>,
        slot: Option<ConnectionSlot<Connection>>,
        connect_timeout: Duration,
    ) -> io::Result<Lease> {
        let connection = match self.upstream.slots.take(self.number, slot) {
            Acquired::Now(Grant::Idle(connection)) => connection,
            // Boxed, since it is rare and its future is large.
            taken => Box::pin(self.open(taken, connect_timeout)).await?,
        };
        Ok(Lease { connection, pool: Arc::clone(self) })
    }

    /// A new connection in the `slot` of one that was closed: the idle ones may be closed too.
    ///
    /// # Errors
    /// As [`Pool::lease`].
    pub(super) async fn lease_new(
        self: &Arc<Self>,
        slot: ConnectionSlot<Connection>,
        connect_timeout: Duration,
    ) -> io::Result<Lease> {
        let connection = Box::pin(self.open(Acquired::Now(Grant::New(slot)), connect_timeout)).await?;
        Ok(Lease { connection, pool: Arc::clone(self) })
    }

    async fn open(
        self: &Arc<Self>,
        taken: Acquired<Connection>,
        connect_timeout: Duration,
    ) -> io::Result<Box<Connection>> {
        let opened = timeout(connect_timeout, async {
            let served = match taken {
                Acquired::Now(served) => Some(served),
                Acquired::Queued(turn) => turn.served().await,
            };
            match served {
                Some(Grant::Idle(connection)) => Ok(connection),
                Some(Grant::New(slot)) => Connection::open(&self.upstream, slot, connect_timeout).await,
                None => Err(io::Error::other("the queue for a connection has ended")),
            }
        });
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect timeout");
        let connection = opened.await.map_err(late)??;
        self.sweeper.get_or_init(|| {
            let sweeping = sweep(Arc::downgrade(self), self.upstream.settings.idle_timeout);
            // Each run polls only the idle connections, so it needs no budget.
            tokio::spawn(coop::unconstrained(sweeping)).abort_handle()
        });
        Ok(connection)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
        self.upstream.slots.leave(self.number);
    }
}

/// Sweeps at intervals that follow from `idle_timeout`, and whenever an idle connection is closed by the backend.
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
        pool.upstream.slots.sweep(pool.number, is_due, most.into(), cx);
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::slots::MAX_IDLE;
    use crate::upstream::{Address, Settings};

    /// Longer than anything in these tests takes.
    const AGES: Duration = Duration::from_secs(60);

    const MAX_CONNECTIONS: usize = 2 * MAX_IDLE;

    #[tokio::test]
    async fn released_connections_are_idle_up_to_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            connect_timeout: AGES,
            read_timeout: AGES,
            request_timeout: AGES,
            idle_timeout: AGES,
            max_connections: u32::try_from(MAX_CONNECTIONS).unwrap(),
        };
        for (count, kept) in [(2, 2), (MAX_IDLE, MAX_IDLE), (MAX_IDLE + 1, MAX_IDLE)] {
            let address = Address::Inet(listener.local_addr().unwrap());
            let pool = Pool::new(Arc::new(Upstream::new("api", address, settings)), false);
            let mut leases = Vec::new();
            for _ in 0..count {
                let (lease, accepted) = tokio::join!(pool.lease(None, AGES), listener.accept());
                // Nothing is sent on it.
                drop(accepted.unwrap());
                leases.push(lease.unwrap());
            }
            let others = leases.split_off(count / 2);
            thread::scope(|scope| {
                for leases in [leases, others] {
                    scope.spawn(move || leases.into_iter().for_each(Lease::release));
                }
            });
            // The others are closed.
            assert_eq!(pool.upstream.slots.figures(), (kept, kept));
        }
    }
}
