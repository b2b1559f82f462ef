//! How long a stored response may be served.

use std::time::Duration;

use super::control::MAX_SECONDS;

/// How long a stored response may be served. No duration exceeds 2^31 s. All are whole seconds, except that
/// `initial_age` includes the response delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The freshness lifetime (RFC 9111, section 4.2.1).
    pub fresh: Duration,
    /// How long after that it may be served during revalidation (RFC 5861, section 3).
    pub while_revalidate: Duration,
    /// How long after `fresh` it may be served if the backend fails (RFC 5861, section 4).
    pub if_error: Duration,
    /// The age at its arrival (RFC 9111, section 4.2.3).
    pub initial_age: Duration,
}

/// How a stored response may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Without revalidation (RFC 9111, section 4.2).
    Fresh,
    /// At once, with revalidation in the background (RFC 5861, section 3).
    StaleWhileRevalidate,
    /// If revalidation fails (RFC 5861, section 4).
    StaleIfError,
    /// Only after successful revalidation (RFC 9111, section 4.3).
    Expired,
}

impl Lifetime {
    /// The freshness after a resident time of `resident`.
    pub fn freshness(&self, resident: Duration) -> Freshness {
        let stale = match self.current_age(resident).checked_sub(self.fresh) {
            None => return Freshness::Fresh,
            Some(stale) => stale,
        };
        if stale < self.while_revalidate {
            Freshness::StaleWhileRevalidate
        } else if stale < self.if_error {
            Freshness::StaleIfError
        } else {
            Freshness::Expired
        }
    }

    /// The value of `Age` (RFC 9111, section 5.1) after a resident time of `resident`, in seconds, at most 2^31.
    pub fn age(&self, resident: Duration) -> u32 {
        u32::try_from(self.current_age(resident).as_secs()).unwrap_or(MAX_SECONDS).min(MAX_SECONDS)
    }

    /// The current age (RFC 9111, section 4.2.3) after a resident time of `resident`.
    fn current_age(&self, resident: Duration) -> Duration {
        self.initial_age.saturating_add(resident)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lifetime(fresh: u64, while_revalidate: u64, if_error: u64, initial_age: u64) -> Lifetime {
        Lifetime {
            fresh: seconds(fresh),
            while_revalidate: seconds(while_revalidate),
            if_error: seconds(if_error),
            initial_age: seconds(initial_age),
        }
    }

    /// RFC 9111, sections 4.2 and 4.2.3; RFC 5861, sections 3 and 4.
    #[test]
    fn a_response_passes_through_its_windows() {
        let lifetime = lifetime(5, 30, 86400, 2);
        let at = |resident| lifetime.freshness(resident);
        let moment = Duration::from_nanos(1);
        assert_eq!(at(Duration::ZERO), Freshness::Fresh);
        assert_eq!(at(seconds(3) - moment), Freshness::Fresh);
        assert_eq!(at(seconds(3)), Freshness::StaleWhileRevalidate);
        assert_eq!(at(seconds(33) - moment), Freshness::StaleWhileRevalidate);
        assert_eq!(at(seconds(33)), Freshness::StaleIfError);
        assert_eq!(at(seconds(86403) - moment), Freshness::StaleIfError);
        assert_eq!(at(seconds(86403)), Freshness::Expired);
        assert_eq!(at(Duration::MAX), Freshness::Expired);
    }

    #[test]
    fn an_empty_window_is_skipped() {
        let at = |lifetime: Lifetime, resident| lifetime.freshness(seconds(resident));
        assert_eq!(at(lifetime(5, 0, 0, 0), 5), Freshness::Expired);
        assert_eq!(at(lifetime(5, 0, 5, 0), 5), Freshness::StaleIfError);
        assert_eq!(at(lifetime(5, 5, 1, 0), 9), Freshness::StaleWhileRevalidate);
        assert_eq!(at(lifetime(5, 5, 1, 0), 10), Freshness::Expired);
        assert_eq!(at(lifetime(0, 0, 0, 0), 0), Freshness::Expired);
    }

    /// RFC 9111, section 5.1.
    #[test]
    fn the_age_is_in_whole_seconds() {
        let lifetime = lifetime(5, 0, 0, 2);
        assert_eq!(lifetime.age(Duration::ZERO), 2);
        assert_eq!(lifetime.age(Duration::from_millis(1999)), 3);
        assert_eq!(lifetime.age(seconds(1 << 40)), 1 << 31);
        assert_eq!(lifetime.age(Duration::MAX), 1 << 31);
    }
}
