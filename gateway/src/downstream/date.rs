//! The `Date` field.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use httpdate::HttpDate;

/// The current time as an HTTP date (RFC 9110, section 6.6.1).
pub(super) fn date() -> HeaderValue {
    // Formatted at most once a second per thread.
    thread_local!(static CACHED: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) });
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    CACHED.with_borrow_mut(|cached| match cached {
        Some((cached_second, date)) if *cached_second == second => date.clone(),
        _ => {
            // An HTTP date is ASCII.
            let date = HeaderValue::try_from(HttpDate::from(now).to_string());
            let date = date.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
            cached.insert((second, date)).1.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed_date() -> SystemTime {
        let date = date();
        let date = date.to_str().unwrap();
        let moment = httpdate::parse_http_date(date).unwrap();
        assert_eq!(httpdate::fmt_http_date(moment), date, "the preferred form");
        moment
    }

    #[test]
    fn the_cached_date_is_refreshed_every_second() {
        let began = SystemTime::now();
        loop {
            let before = SystemTime::now();
            let (parsed, after) = (parsed_date(), SystemTime::now());
            assert!(
                parsed <= after && before < parsed + Duration::from_secs(1),
                "{parsed:?} from {before:?} to {after:?}"
            );
            // Until the cached value was replaced.
            if parsed > began {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
