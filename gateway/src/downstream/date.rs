//! What `Date` says.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use httpdate::HttpDate;

/// The moment of an answer that is sent now (RFC 9110, section 6.6.1).
pub(super) fn date() -> HeaderValue {
    // Made once a second by each thread.
    thread_local!(static MADE: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) });
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    MADE.with_borrow_mut(|made| match made {
        Some((of, date)) if *of == second => date.clone(),
        _ => {
            // The form is of ASCII.
            let date = HeaderValue::try_from(HttpDate::from(now).to_string());
            let date = date.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
            made.insert((second, date)).1.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told() -> SystemTime {
        let date = date();
        let date = date.to_str().unwrap();
        let moment = httpdate::parse_http_date(date).unwrap();
        assert_eq!(httpdate::fmt_http_date(moment), date, "the preferred form");
        moment
    }

    #[test]
    fn it_is_the_present_second_however_long_the_thread_lives() {
        let began = SystemTime::now();
        loop {
            let before = SystemTime::now();
            let (told, after) = (told(), SystemTime::now());
            assert!(told <= after && before < told + Duration::from_secs(1), "{told:?} from {before:?} to {after:?}");
            // Until it has been made anew.
            if told > began {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
