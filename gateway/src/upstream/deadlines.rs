//! The deadlines of an exchange with an upstream.

use std::time::Duration;

use tokio::time::Instant;

use super::error::UpstreamError;

/// How long an exchange without an end may take, in practice: thirty years.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The deadlines for the response to one request. Of the two, the earlier applies.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    upstream: &'static str,
    /// For the whole response.
    end: Instant,
    /// For the whole head, and for each read of the body.
    read: Duration,
}

impl Deadlines {
    pub(super) fn new(upstream: &'static str, read: Duration, end: Instant) -> Self {
        Self { upstream, end, read }
    }

    /// The deadlines for a response that does not end: only that of each read.
    pub(super) fn endless(upstream: &'static str, read: Duration) -> Self {
        Self { upstream, end: Instant::now() + FOREVER, read }
    }

    /// The deadline for the whole response.
    pub fn end(self) -> Instant {
        self.end
    }

    /// The deadline for a read that starts now.
    pub fn next_read(self) -> Instant {
        self.end.min(Instant::now() + self.read)
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
        let deadlines = Deadlines::new("api", 2 * second, end);
        assert_eq!(deadlines.next_read(), start + 2 * second);
        tokio::time::advance(2 * second).await;
        assert_eq!((deadlines.next_read(), deadlines.have_passed()), (end, false));
        tokio::time::advance(second).await;
        assert_eq!((deadlines.next_read(), deadlines.have_passed()), (end, true));
        let endless = Deadlines::endless("api", second);
        assert_eq!((endless.next_read(), endless.have_passed()), (Instant::now() + second, false));
    }
}
