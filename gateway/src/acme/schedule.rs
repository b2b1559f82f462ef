//! When to obtain a certificate. All times are arguments, in seconds since 1970.

use std::time::Duration;

/// The longest delay after a failure.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(3600);

/// The delay after each further failure is this many times the one before.
const BACKOFF: u32 = 4;

/// How often renewal information is requested if the server does not specify it, and the bounds of what it may
/// specify (RFC 9773, section 4.3.2).
const RENEWAL_INFO_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const MIN_RENEWAL_INFO_INTERVAL: Duration = Duration::from_secs(60);
const MAX_RENEWAL_INFO_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its start.
    pub not_before: i64,
    /// Its end.
    pub not_after: i64,
}

/// When the server suggests to renew a certificate (RFC 9773, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

/// When to renew a certificate: in the window that the server suggests, otherwise at two thirds of the lifetime, or
/// up to a thirtieth of it later. `position`, at least 0 and below 1, is random for each certificate and gateway, so
/// that not all are renewed at once. A window that is empty or ends after the certificate is ignored.
pub fn renewal(validity: Validity, window: Option<Window>, position: f64) -> i64 {
    let Validity { not_before, not_after } = validity;
    if let Some(Window { start, end }) = window.filter(|window| window.start < window.end && window.end <= not_after) {
        return start.saturating_add(part_of(end.saturating_sub(start), position));
    }
    let lifetime = not_after.saturating_sub(not_before).max(0);
    let two_thirds = lifetime / 3 * 2 + lifetime % 3 * 2 / 3;
    not_before.saturating_add(two_thirds).saturating_add(part_of(lifetime / 30, position))
}

/// The delay after `failures` failures in a row, of which the first has a delay of `first`. `position` as for
/// [`renewal`]: the delay is up to a quarter shorter or longer. It is never shorter than what the server `requested`.
pub fn retry_delay(failures: u32, first: Duration, requested: Option<Duration>, position: f64) -> Duration {
    let times = BACKOFF.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = first.saturating_mul(times).min(MAX_RETRY_DELAY.max(first));
    let delay = delay.mul_f64(position.clamp(0.0, 1.0).mul_add(0.5, 0.75));
    delay.max(requested.unwrap_or_default().min(MAX_RENEWAL_INFO_INTERVAL))
}

/// Whether an attempt at `retry_at` is still to be waited for. A later time than any delay gives is from a clock that
/// was wrong.
pub fn is_waiting(retry_at: i64, now: i64) -> bool {
    let longest = i64::try_from(MAX_RENEWAL_INFO_INTERVAL.as_secs()).unwrap_or(i64::MAX);
    (1..=longest).contains(&retry_at.saturating_sub(now))
}

/// How long renewal information may be used that the server returned with a `Retry-After` of `requested`. The
/// information about a short-lived certificate is requested at least ten times in its lifetime.
pub fn renewal_info_interval(validity: Validity, requested: Option<Duration>) -> Duration {
    let lifetime = u64::try_from(validity.not_after.saturating_sub(validity.not_before)).unwrap_or(0);
    let interval = requested.unwrap_or(RENEWAL_INFO_INTERVAL).min(Duration::from_secs(lifetime / 10));
    interval.clamp(MIN_RENEWAL_INFO_INTERVAL, MAX_RENEWAL_INFO_INTERVAL)
}

/// `whole * position`, rounded down.
fn part_of(whole: i64, position: f64) -> i64 {
    const PARTS: i64 = 1 << 20;
    #[allow(clippy::cast_possible_truncation, reason = "the value is within 0 and PARTS")]
    let parts = (position.clamp(0.0, 1.0) * PARTS as f64) as i64;
    whole / PARTS * parts + whole % PARTS * parts / PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const START: i64 = 1_800_000_000;

    fn lasting(seconds: i64) -> Validity {
        Validity { not_before: START, not_after: START + seconds }
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime_or_shortly_after() {
        for (lifetime, earliest, latest) in [
            (90 * DAY, 60 * DAY, 63 * DAY),
            // Certificates for six days.
            (6 * DAY, 4 * DAY, 4 * DAY + DAY / 5),
            (30, 20, 21),
            (10, 6, 6),
            (0, 0, 0),
        ] {
            assert_eq!(renewal(lasting(lifetime), None, 0.0), START + earliest);
            let last = renewal(lasting(lifetime), None, 0.999_999);
            assert!((START + earliest..=START + latest).contains(&last), "{lifetime}: {last}");
        }
        let between = renewal(lasting(90 * DAY), None, 0.5);
        assert_eq!(between, START + 61 * DAY + DAY / 2);
        assert_eq!(renewal(Validity { not_before: START, not_after: START - 5 }, None, 0.5), START);
        assert!(renewal(Validity { not_before: i64::MIN, not_after: i64::MAX }, None, 0.9) < i64::MAX);
    }

    #[test]
    fn the_window_of_the_server_has_priority_unless_it_is_not_usable() {
        let validity = lasting(90 * DAY);
        let window = |start, end| Some(Window { start: START + start, end: START + end });
        assert_eq!(renewal(validity, window(10 * DAY, 12 * DAY), 0.0), START + 10 * DAY);
        assert_eq!(renewal(validity, window(10 * DAY, 12 * DAY), 0.5), START + 11 * DAY);
        // In the past: the certificate is to be replaced at once.
        assert!(renewal(validity, window(-5 * DAY, -4 * DAY), 0.5) < START);
        for unusable in [window(12 * DAY, 10 * DAY), window(10 * DAY, 10 * DAY), window(89 * DAY, 91 * DAY)] {
            assert_eq!(renewal(validity, unusable, 0.0), START + 60 * DAY);
        }
    }

    #[test]
    fn failures_are_repeated_with_growing_delays_within_bounds() {
        let minute = Duration::from_secs(60);
        let delays: Vec<_> = (1..=6).map(|failures| retry_delay(failures, minute, None, 0.5).as_secs()).collect();
        assert_eq!(delays, [60, 240, 960, 3600, 3600, 3600]);
        assert_eq!(retry_delay(u32::MAX, minute, None, 0.5).as_secs(), 3600);
        assert_eq!(retry_delay(0, minute, None, 0.5).as_secs(), 60);
        assert_eq!(retry_delay(1, minute, None, 0.0).as_secs(), 45);
        assert_eq!(retry_delay(1, minute, None, 1.0).as_secs(), 75);
        // As by the rate limits of the server, but not forever.
        assert_eq!(retry_delay(1, minute, Some(Duration::from_secs(7200)), 0.5).as_secs(), 7200);
        assert_eq!(retry_delay(1, minute, Some(Duration::MAX), 0.5), MAX_RENEWAL_INFO_INTERVAL);
    }

    #[test]
    fn an_attempt_is_waited_for_unless_its_time_is_from_a_wrong_clock() {
        assert!(is_waiting(START + 1, START) && is_waiting(START + DAY, START));
        assert!(!is_waiting(START, START) && !is_waiting(START - 1, START) && !is_waiting(0, START));
        assert!(!is_waiting(START + DAY + 1, START) && !is_waiting(i64::MAX, i64::MIN));
    }

    #[test]
    fn renewal_information_is_requested_within_bounds() {
        let seconds = |validity, requested: Option<u64>| {
            renewal_info_interval(validity, requested.map(Duration::from_secs)).as_secs()
        };
        assert_eq!(seconds(lasting(90 * DAY), None), 6 * 3600);
        assert_eq!(seconds(lasting(90 * DAY), Some(7200)), 7200);
        assert_eq!(seconds(lasting(90 * DAY), Some(1)), 60);
        assert_eq!(seconds(lasting(90 * DAY), Some(u64::MAX)), 86_400);
        assert_eq!(seconds(lasting(DAY), None), 8640);
        assert_eq!(seconds(lasting(30), None), 60);
    }
}
