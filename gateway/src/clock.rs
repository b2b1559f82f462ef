//! The wall clock as the rules about tokens take it.

use std::time::SystemTime;

/// Milliseconds since 1970, as [`unix_now`].
pub fn unix_now_millis() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since 1970. An earlier clock is read as 1970, when no token of the gateway is valid.
pub fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
