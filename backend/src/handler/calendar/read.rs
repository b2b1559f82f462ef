//! Reads a feed by its key.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::contract::FeedErrors;
use super::super::tagged::Tagged;
use super::super::{App, BUSY_RETRY, HandlerResult, clock_error, report_unreadable, store_failed};
use super::writes::{Reservation, WriteBudget};
use crate::calendar::{Coverage, Event, Revisions, render};
use crate::model::{
    Calendar, CalendarKey, Day, DeliveredRevision, KeyHash, PAGE_LIMIT, PageRequest, Sort, WallClock, datetimes_of,
};
use crate::record::Metrics;
use crate::respond::HttpError;
use crate::store::{Listing, Store};

/// The number of days before today in a feed.
const PAST_DAYS: i64 = 31;
/// The number of days after today in a feed.
const FUTURE_DAYS: i64 = 366;
/// The maximum number of events. Those from today on come first, then the latest before.
const EVENTS: usize = PAGE_LIMIT;
/// How long a read waits for a permit.
const WAIT: Duration = Duration::from_secs(5);
/// The maximum number of comparisons: one, another after the wait for a write, and others after another process has
/// stored its own.
const ATTEMPTS: u32 = 5;

/// Never cached by the gateway, which checks each request; clients may store it and revalidate.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const CALENDAR_TYPE: HeaderValue = HeaderValue::from_static("text/calendar; charset=utf-8");

/// The result of a coalesced read.
pub(super) type Read = Result<Tagged, HttpError>;

/// Read a calendar feed
///
/// `200` with the feed, or `304`; `404` if there is no feed with this key, whatever the reason.
#[utoipa::path(
    get,
    path = "/calendar/{key}.ics",
    operation_id = "readCalendarFeed",
    tag = "calendar",
    params(("key" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The key of the feed.")),
    security(()),
    responses(
        (
            status = 200,
            description = "An iCalendar object (RFC 5545).",
            body = String,
            content_type = "text/calendar; charset=utf-8",
        ),
        FeedErrors,
    ),
)]
pub(crate) async fn read(app: &App, headers: &HeaderMap, key: &str) -> HandlerResult {
    let key = CalendarKey::parse(key).ok_or_else(no_such_feed)?.hash();
    let found = app.store.calendar(&key).await.map_err(|error| app.store_failed(&error))?;
    let (calendar, delivered) = found.ok_or_else(no_such_feed)?;
    let reader = Reader {
        store: app.store.clone(),
        metrics: Arc::clone(app.metrics()),
        permits: Arc::clone(&app.calendars.permits),
        writes: Arc::clone(&app.calendars.writes),
        duration: i64::from(app.settings.lists.assumed_duration),
        now: app.now(),
    };
    let id = (calendar.id.clone(), app.store.version());
    let feed = app.calendars.reads.join(id, || reader.read(key, calendar, delivered)).await?;
    Ok(feed.into_response(headers, PRIVATE))
}

/// `404`, the same for a key that is malformed, unknown or revoked, and for the feed of a disabled user.
pub(super) fn no_such_feed() -> HttpError {
    HttpError::not_found("there is no such calendar feed")
}

struct Reader {
    store: Store,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    writes: Arc<WriteBudget>,
    /// The assumed duration of a stream, in seconds.
    duration: i64,
    /// In seconds since the Unix epoch.
    now: i64,
}

impl Reader {
    /// Each response is stored before it is delivered, so that the next one continues from it.
    async fn read(self, key: KeyHash, mut calendar: Calendar, mut delivered: DeliveredRevision) -> Read {
        let mut permit = self.permit().await?;
        // Dropped with this future, which has no waiter left if all clients have disconnected.
        let mut reserved: Option<Reservation> = None;
        for _ in 0..ATTEMPTS {
            let revisions = self.compare(&calendar, &delivered).await?;
            if !revisions.changed {
                return Ok(self.rendered(&calendar, &revisions));
            }
            let is_new = reserved.is_none();
            let write = match &mut reserved {
                Some(write) => write,
                None => reserved.insert(self.reserve_write()?),
            };
            let wait = if is_new { write.wait() } else { Duration::ZERO };
            if wait.is_zero() {
                write.begin();
                if self.store_delivered(&calendar, &delivered, &revisions).await? {
                    return Ok(self.rendered(&calendar, &revisions));
                }
            } else {
                // Other reads need the permit, and the memory of the events, during the wait.
                drop((revisions, permit));
                tokio::time::sleep(wait).await;
                permit = self.permit().await?;
            }
            let found = self.store.calendar(&key).await.map_err(|error| store_failed(&self.metrics, &error))?;
            (calendar, delivered) = found.ok_or_else(no_such_feed)?;
        }
        drop(permit);
        Err(HttpError::unavailable("the calendar feed is being read by others", BUSY_RETRY))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        permit
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| HttpError::unavailable("too many calendar feeds are being read", BUSY_RETRY))
    }

    fn rendered(&self, calendar: &Calendar, revisions: &Revisions) -> Tagged {
        Tagged::new(render(calendar.label.as_deref(), &revisions.events, self.duration), CALENDAR_TYPE)
    }

    fn reserve_write(&self) -> Result<Reservation, HttpError> {
        self.writes.reserve(Instant::now()).map_err(|wait| {
            let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
            HttpError::unavailable("too many calendar feeds have changed", seconds)
        })
    }

    async fn compare(&self, calendar: &Calendar, delivered: &DeliveredRevision) -> Result<Revisions, HttpError> {
        let failed = |error| store_failed(&self.metrics, &error);
        let now = self.now;
        let streamers = self.store.streamers().await.map_err(failed)?;
        let window = Window::at(now).ok_or_else(clock_error)?;
        let list = async |range: Range<String>, sort, limit| {
            let selection = calendar.filter.select(vec![range], &streamers);
            let listing = self.store.list(&selection, &PageRequest { sort, limit, after: None }).await?;
            report_unreadable(&self.metrics, &listing.unreadable);
            Ok(listing)
        };
        let coming = list(window.coming(), Sort::Ascending, EVENTS).await.map_err(failed)?;
        let rest = EVENTS.saturating_sub(coming.entries.len());
        let past = match rest {
            0 => None,
            rest => Some(list(window.past(), Sort::Descending, rest).await.map_err(failed)?),
        };
        let coverage = window.coverage(past.as_ref(), &coming);
        let past = past.iter().flat_map(|past| past.entries.iter().rev());
        let holodules = past.chain(&coming.entries);
        let events = holodules.filter_map(|holodule| Event::of(holodule, &streamers)).collect();
        let known = delivered.delivered.clone();
        Ok(Revisions::of(events, known, &coverage, calendar.created_at, self.duration, now))
    }

    /// Stores the delivered events. `false` if another process did so meanwhile.
    async fn store_delivered(
        &self,
        calendar: &Calendar,
        before: &DeliveredRevision,
        revisions: &Revisions,
    ) -> Result<bool, HttpError> {
        let stored = self.store.store_delivered(&calendar.id, before.revision, revisions.delivered.clone()).await;
        stored.map_err(|error| store_failed(&self.metrics, &error))
    }
}

/// The days of a feed.
struct Window {
    first: Day,
    yesterday: Day,
    today: Day,
    last: Day,
}

impl Window {
    /// The days at `now`, in seconds since the Unix epoch; `None` outside the years 0000 to 9999.
    fn at(now: i64) -> Option<Self> {
        let today = WallClock::at_unix(now)?.day();
        let [first, yesterday, last] = [-PAST_DAYS, -1, FUTURE_DAYS].map(|days| today.checked_add(days));
        Some(Self { first: first?, yesterday: yesterday?, today, last: last? })
    }

    fn past(&self) -> Range<String> {
        datetimes_of(self.first, self.yesterday)
    }

    fn coming(&self) -> Range<String> {
        datetimes_of(self.today, self.last)
    }

    /// The times for which these reads, both limited, returned every event; `None` if the past was not read.
    fn coverage(&self, past: Option<&Listing>, coming: &Listing) -> Coverage {
        let window = begin(self.first)..begin(self.last).saturating_add(24 * 3600);
        // More events may start at the same time as the last one that was read.
        let start = match past.map(|past| &past.next) {
            None => begin(self.today),
            Some(None) => window.start,
            Some(Some(position)) => time(&position.datetime).map_or(begin(self.today), |time| time.saturating_add(1)),
        };
        let end = match &coming.next {
            None => window.end,
            Some(position) => time(&position.datetime).unwrap_or(begin(self.today)),
        };
        Coverage { window, complete: start..end }
    }
}

/// Midnight, in seconds since the Unix epoch.
fn begin(day: Day) -> i64 {
    WallClock::parse(&format!("{day} 000000")).map_or(0, WallClock::unix)
}

fn time(datetime: &str) -> Option<i64> {
    WallClock::parse(datetime).ok().map(WallClock::unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;

    #[test]
    fn a_window_is_of_days_in_japan() {
        // 2026-11-28 00:00:00 in Japan.
        let midnight = begin(Day::parse("20261128").unwrap());
        let window = Window::at(midnight).unwrap();
        assert_eq!(window.past(), "20261028 ".to_owned().."20261127!".to_owned());
        assert_eq!(window.coming(), "20261128 ".to_owned().."20271129!".to_owned());
        assert_eq!(Window::at(midnight - 1).unwrap().today, Day::parse("20261127").unwrap());
        assert!(Window::at(i64::MAX).is_none());
    }

    #[test]
    fn only_what_was_read_is_known() {
        let window = Window::at(begin(Day::parse("20261128").unwrap())).unwrap();
        let listing = |next: Option<&str>| Listing {
            next: next.map(|datetime| Position { datetime: datetime.into(), key: String::new(), id: Vec::new() }),
            ..Listing::default()
        };
        let of =
            |past: Option<Option<&str>>, coming| window.coverage(past.map(listing).as_ref(), &listing(coming)).complete;
        let at = |text| time(text).unwrap();
        assert_eq!(of(Some(None), None), at("20261028 000000")..at("20271130 000000"));
        assert_eq!(of(Some(Some("20261101 120000")), None), at("20261101 120001")..at("20271130 000000"));
        assert_eq!(of(None, Some("20270101 120000")), at("20261128 000000")..at("20270101 120000"));
        assert_eq!(of(None, Some("20270101 x")), at("20261128 000000")..at("20261128 000000"));
    }
}
