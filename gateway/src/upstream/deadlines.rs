//! The deadlines of an exchange with an upstream.

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::error::UpstreamError;

/// How long an exchange without an end may take, in practice: thirty years.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The timeouts of a request that differ from those of its upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a new connection, including the wait for one.
    pub connect: Option<Duration>,
    /// For the whole head of the response.
    pub first_byte: Option<Duration>,
    /// For each read of the body of the response. Also for each write of the body of the request, if this is set or
    /// there is no `total`.
    pub idle: Option<Duration>,
    /// For the whole response; zero for no deadline.
    pub total: Option<Duration>,
}

/// The deadlines for the response to one request. Of that for the whole and another, the earlier applies.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    upstream: &'static str,
    /// For a new connection.
    connect: Duration,
    /// For the whole head.
    head: Duration,
    /// For each read of the body.
    read: Duration,
    /// For each write of the request body.
    write: Duration,
    /// For the whole response.
    end: Instant,
}

impl Deadlines {
    /// The deadlines `end`, and `read` for the head and each read.
    pub(super) fn new(upstream: &'static str, read: Duration, end: Instant) -> Self {
        Self { upstream, connect: FOREVER, head: read, read, write: FOREVER, end }
    }

    /// The deadlines of a request that `started` then.
    pub(super) fn of(upstream: &'static str, settings: &Settings, timeouts: &Timeouts, started: Instant) -> Self {
        let read = timeouts.idle.unwrap_or(settings.read_timeout);
        let total = timeouts.total.unwrap_or(settings.request_timeout);
        Self {
            upstream,
            connect: timeouts.connect.unwrap_or(settings.connect_timeout),
            head: timeouts.first_byte.unwrap_or(settings.read_timeout),
            read,
            write: if timeouts.idle.is_some() || total.is_zero() { read } else { FOREVER },
            end: started + if total.is_zero() { FOREVER } else { total },
        }
    }

    /// The deadlines for a response that does not end: only `read` for its head and for each read.
    pub(super) fn endless(upstream: &'static str, read: Duration) -> Self {
        Self::new(upstream, read, Instant::now() + FOREVER)
    }

    /// The same, where a new connection must be made within `connect`.
    pub(super) fn connecting_within(self, connect: Duration) -> Self {
        Self { connect, ..self }
    }

    /// The same for the body of a response that may never end: each read has `idle`, and there is no deadline for the
    /// whole.
    pub fn of_stream(self, idle: Duration) -> Self {
        Self { read: idle, end: Instant::now() + FOREVER, ..self }
    }

    /// The same, where the next read is that of the head.
    pub fn of_head(self) -> Self {
        Self { read: self.head, ..self }
    }

    /// The same, where the whole ends at `end` at the latest.
    pub fn ending_by(self, end: Instant) -> Self {
        Self { end: self.end.min(end), ..self }
    }

    /// The timeout of a new connection.
    pub fn connect_timeout(self) -> Duration {
        self.connect
    }

    /// The deadline for the whole response.
    pub fn end(self) -> Instant {
        self.end
    }

    /// The deadline for a read that starts now.
    pub fn next_read(self) -> Instant {
        self.end.min(Instant::now() + self.read)
    }

    /// The deadline for a write of the request body that starts now. If the request may take forever, a service that
    /// reads nothing must not hold it.
    pub fn next_write(self) -> Instant {
        self.end.min(Instant::now() + self.write)
    }

    /// Whether the deadline for the whole response has passed. A body whose data is always available is never
    /// interrupted by a timer.
    pub fn have_passed(self) -> bool {
        Instant::now() >= self.end
    }

    /// The error if one has passed.
    pub fn error(self) -> UpstreamError {
        UpstreamError::TimedOut(self.upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_applies_to_a_read() {
        let second = Duration::from_secs(1);
        let (start, end) = (Instant::now(), Instant::now() + 3 * second);
        let settings = settings(second, 2 * second, 3 * second);
        let deadlines = Deadlines::of("api", &settings, &Timeouts::default(), start);
        assert_eq!(deadlines.next_read(), start + 2 * second);
        tokio::time::advance(2 * second).await;
        assert_eq!((deadlines.next_read(), deadlines.have_passed()), (end, false));
        tokio::time::advance(second).await;
        assert_eq!((deadlines.next_read(), deadlines.have_passed()), (end, true));
        let endless = Deadlines::endless("api", second);
        assert_eq!((endless.next_read(), endless.have_passed()), (Instant::now() + second, false));
    }

    fn settings(connect_timeout: Duration, read_timeout: Duration, request_timeout: Duration) -> Settings {
        Settings {
            connect_timeout,
            read_timeout,
            request_timeout,
            idle_timeout: Duration::from_secs(1),
            max_connections: 4,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_timeout_of_a_request_replaces_that_of_the_upstream() {
        let [connect, read, total] = [1, 10, 30].map(Duration::from_secs);
        let (settings, start, second) = (settings(connect, read, total), Instant::now(), Duration::from_secs(1));
        let of = |timeouts: &Timeouts| {
            let deadlines = Deadlines::of("api", &settings, timeouts, start);
            let (head, body) = (deadlines.of_head().next_read(), deadlines.next_read());
            (
                deadlines.connect_timeout(),
                head - start,
                body - start,
                deadlines.next_write() - start,
                deadlines.end() - start,
            )
        };
        assert_eq!(of(&Timeouts::default()), (connect, read, read, total, total));
        let none = Timeouts::default();
        assert_eq!(of(&Timeouts { connect: Some(2 * second), ..none }).0, 2 * second);
        assert_eq!(of(&Timeouts { first_byte: Some(second), ..none }), (connect, second, read, total, total));
        assert_eq!(of(&Timeouts { idle: Some(second), ..none }), (connect, read, second, second, total));
        let short = 5 * second;
        assert_eq!(of(&Timeouts { total: Some(short), ..none }), (connect, short, short, short, short));
        // Without a total, each side still has its own deadline.
        assert_eq!(of(&Timeouts { total: Some(Duration::ZERO), ..none }), (connect, read, read, read, FOREVER));
    }
}
