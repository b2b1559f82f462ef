//! The connections of one client to its backend: opened on demand, reused, and closed after the idle timeout.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::task::{AbortHandle, coop};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::Upstream;
use super::balance::{Choice, Failure};
use super::connection::{ClosedConnection, Connection, share_of};
use super::slots::{Acquired, ConnectionSlot, Grant};

/// The maximum time between two sweeps, by which a connection may exceed the idle timeout.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Pool {
    upstream: Arc<Upstream>,
    /// The number of the client's stack of connections to the first address.
    number: usize,
    sweeper: OnceLock<AbortHandle>,
}

/// A connection in use. It is closed when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    in_flight: InFlight,
}

/// A request to an address, which is in flight until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    pool: Arc<Pool>,
    /// The position of the address.
    place: usize,
    /// The epoch of the address when the connection was leased.
    epoch: u64,
}

impl Lease {
    /// The name of the upstream.
    pub(super) fn upstream(&self) -> &'static str {
        self.in_flight.pool.upstream.name
    }

    /// The position of the address that the connection is open to.
    pub(super) fn place(&self) -> usize {
        self.in_flight.place
    }

    /// Returns the connection to the pool, unless connections to its address must no longer be reused.
    pub(super) fn release(self) {
        let Self { connection, in_flight } = self;
        let (upstream, place) = (&in_flight.pool.upstream, in_flight.place);
        let is_current = || upstream.balancer.epoch(place) == in_flight.epoch;
        if is_current() {
            upstream.slots.put(in_flight.pool.number + place, connection);
            // The epoch may have ended meanwhile.
            if !is_current() {
                upstream.slots.close_idle_to(place);
            }
        }
    }

    /// Closes the connection.
    pub(super) fn close(self) -> ClosedConnection {
        self.connection.close()
    }

    /// The connection, and the request to its address, which is in flight until the second is dropped.
    pub(super) fn into_parts(self) -> (Box<Connection>, InFlight) {
        (self.connection, self.in_flight)
    }
}

impl InFlight {
    fn new(pool: Arc<Pool>, place: usize, epoch: u64) -> Self {
        if let Some(address) = pool.upstream.balancer.address(place) {
            address.begin();
        }
        Self { pool, place, epoch }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(address) = self.pool.upstream.balancer.address(self.place) {
            address.end();
        }
    }
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, is_exempt: bool) -> Arc<Self> {
        let number = upstream.slots.join(is_exempt, upstream.addresses.len());
        Arc::new(Self { upstream, number, sweeper: OnceLock::new() })
    }

    /// A connection to the next address of `choice`: an idle one, otherwise a new one in a free slot; if connecting
    /// fails, one to the address after that. Requests that wait for a slot are served in turn. A request whose connection
    /// was closed reuses the `slot` of that.
    ///
    /// # Errors
    /// No connection within the connect timeout, or connecting to each address failed.
    pub(super) async fn lease(
        self: &Arc<Self>,
        choice: &mut Choice<'_>,
        slot: Option<ConnectionSlot<Connection>>,
        connect_timeout: Duration,
    ) -> io::Result<Lease> {
        let place = choice.next().ok_or_else(no_address)?;
        let epoch = self.upstream.balancer.epoch(place);
        match self.upstream.slots.take(self.number + place, slot, choice.takes_any()) {
            Acquired::Now(Grant::Idle(connection, _)) => Ok(self.lend(connection, place, epoch)),
            // Boxed, since it is rare and its future is large.
            taken => Box::pin(self.open(taken, (place, epoch), choice, connect_timeout)).await,
        }
    }

    /// A new connection in the `slot` of one that was closed: the idle ones may be closed too.
    ///
    /// # Errors
    /// As [`Pool::lease`].
    pub(super) async fn lease_new(
        self: &Arc<Self>,
        choice: &mut Choice<'_>,
        slot: ConnectionSlot<Connection>,
        connect_timeout: Duration,
    ) -> io::Result<Lease> {
        let place = choice.next().ok_or_else(no_address)?;
        let epoch = self.upstream.balancer.epoch(place);
        Box::pin(self.open(Acquired::Now(Grant::New(slot)), (place, epoch), choice, connect_timeout)).await
    }

    /// Waits for a connection or a slot, and connects to the address at a position in an epoch, and then to the others
    /// of `choice`, each within its share of the time.
    async fn open(
        self: &Arc<Self>,
        mut taken: Acquired<Connection>,
        (mut place, mut epoch): (usize, u64),
        choice: &mut Choice<'_>,
        connect_timeout: Duration,
    ) -> io::Result<Lease> {
        let deadline = Instant::now() + connect_timeout;
        let balancer = &self.upstream.balancer;
        loop {
            let slot = match self.granted(taken, deadline).await? {
                Grant::Idle(connection, stack) => {
                    // It may be to another address.
                    let used = stack - self.number;
                    choice.replace(place, used);
                    let epoch = if used == place { epoch } else { balancer.epoch(used) };
                    return Ok(self.lend(connection, used, epoch));
                }
                Grant::New(slot) => slot,
            };
            let began = Instant::now();
            let share = share_of(deadline.saturating_duration_since(began), choice.untried().saturating_add(1));
            let opened = timeout(share, Connection::open(&self.upstream, place, slot, share)).await;
            let error = match opened.unwrap_or_else(|_| Err(late())) {
                Ok(connection) => {
                    if connection.is_new() {
                        balancer.connected(place, began.elapsed());
                    }
                    self.sweep();
                    return Ok(self.lend(connection, place, epoch));
                }
                Err(error) => error,
            };
            let is_late = error.kind() == io::ErrorKind::TimedOut;
            balancer.failed(place, if is_late { Failure::Silent } else { Failure::Connect });
            place = choice.next().ok_or(error)?;
            epoch = balancer.epoch(place);
            taken = self.upstream.slots.take(self.number + place, None, false);
        }
    }

    async fn granted(&self, taken: Acquired<Connection>, deadline: Instant) -> io::Result<Grant<Connection>> {
        match taken {
            Acquired::Now(granted) => Ok(granted),
            Acquired::Queued(turn) => {
                let served = timeout_at(deadline, turn.served()).await.map_err(|_| late())?;
                served.ok_or_else(|| io::Error::other("the queue for a connection has ended"))
            }
            Acquired::Full => Err(io::Error::other("the queue for a connection is full")),
        }
    }

    fn lend(self: &Arc<Self>, connection: Box<Connection>, place: usize, epoch: u64) -> Lease {
        Lease { connection, in_flight: InFlight::new(Arc::clone(self), place, epoch) }
    }

    /// Starts the sweeper.
    fn sweep(self: &Arc<Self>) {
        self.sweeper.get_or_init(|| {
            let sweeping = sweep(Arc::downgrade(self), self.upstream.settings.idle_timeout);
            // Each run polls only the idle connections, so it needs no budget.
            tokio::spawn(coop::unconstrained(sweeping)).abort_handle()
        });
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect timeout")
}

fn no_address() -> io::Error {
    io::Error::other("no address can be reached")
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
                let mut any = pool.upstream.balancer.any();
                let (lease, accepted) = tokio::join!(pool.lease(&mut any, None, AGES), listener.accept());
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
