//! How long a stored answer may be given again.

use std::time::Duration;

use super::control::MAX_SECONDS;

/// How long a stored answer may be given. All are whole seconds but for the time it took to
/// arrive, and none exceeds 2^31 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The age at which it is no longer fresh (RFC 9111, section 4.2.1).
    pub fresh: Duration,
    /// For how long after that it may be given while the backend is asked again (RFC 5861,
    /// section 3).
    pub while_revalidate: Duration,
    /// For how long after it was fresh it may stand in for a failure (RFC 5861, section 4).
    pub if_error: Duration,
    /// How old it was when it came (RFC 9111, section 4.2.3).
    pub initial_age: Duration,
}

/// What a stored answer is good for at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be given as it is (RFC 9111, section 4.2).
    Fresh,
    /// It may be given, and is to be revalidated meanwhile (RFC 5861, section 3).
    StaleWhileRevalidate,
    /// It may be given where revalidating it fails (RFC 5861, section 4).
    StaleIfError,
    /// It may only be given once it was revalidated (RFC 9111, section 4.3).
    Expired,
}

impl Lifetime {
    /// What the answer is good for after it was here for `resident`.
    pub fn standing(&self, resident: Duration) -> Standing {
        let stale = match self.current_age(resident).checked_sub(self.fresh) {
            None => return Standing::Fresh,
            Some(stale) => stale,
        };
        if stale < self.while_revalidate {
            Standing::StaleWhileRevalidate
        } else if stale < self.if_error {
            Standing::StaleIfError
        } else {
            Standing::Expired
        }
    }

    /// The value of `Age` (RFC 9111, section 5.1) after the answer was here for `resident`, in
    /// seconds, at most 2^31.
    pub fn age(&self, resident: Duration) -> u32 {
        u32::try_from(self.current_age(resident).as_secs()).unwrap_or(MAX_SECONDS).min(MAX_SECONDS)
    }

    /// Its age (RFC 9111, section 4.2.3) after it was here for `resident`.
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
    fn an_answer_ages_through_its_windows() {
        let lifetime = lifetime(5, 30, 86400, 2);
        let at = |resident| lifetime.standing(resident);
        let moment = Duration::from_nanos(1);
        assert_eq!(at(Duration::ZERO), Standing::Fresh);
        assert_eq!(at(seconds(3) - moment), Standing::Fresh);
        assert_eq!(at(seconds(3)), Standing::StaleWhileRevalidate);
        assert_eq!(at(seconds(33) - moment), Standing::StaleWhileRevalidate);
        assert_eq!(at(seconds(33)), Standing::StaleIfError);
        assert_eq!(at(seconds(86403) - moment), Standing::StaleIfError);
        assert_eq!(at(seconds(86403)), Standing::Expired);
        assert_eq!(at(Duration::MAX), Standing::Expired);
    }

    #[test]
    fn a_window_that_is_missing_is_passed_over() {
        let at = |lifetime: Lifetime, resident| lifetime.standing(seconds(resident));
        assert_eq!(at(lifetime(5, 0, 0, 0), 5), Standing::Expired);
        assert_eq!(at(lifetime(5, 0, 5, 0), 5), Standing::StaleIfError);
        assert_eq!(at(lifetime(5, 5, 1, 0), 9), Standing::StaleWhileRevalidate);
        assert_eq!(at(lifetime(5, 5, 1, 0), 10), Standing::Expired);
        assert_eq!(at(lifetime(0, 0, 0, 0), 0), Standing::Expired);
    }

    /// RFC 9111, section 5.1.
    #[test]
    fn the_age_is_told_in_whole_seconds() {
        let lifetime = lifetime(5, 0, 0, 2);
        assert_eq!(lifetime.age(Duration::ZERO), 2);
        assert_eq!(lifetime.age(Duration::from_millis(1999)), 3);
        assert_eq!(lifetime.age(seconds(1 << 40)), 1 << 31);
        assert_eq!(lifetime.age(Duration::MAX), 1 << 31);
    }
}
