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
