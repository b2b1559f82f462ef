//! The task that follows one query: it reads changed days again, starts streams, and moves the days.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, sleep_until};

use super::channel::Channel;
use super::pending::PendingDays;
use super::query::{DAYS_LIMIT, Query};
use super::read::{self, Listed};
use super::state::State;
use super::{Hub, IDLE_LIMIT, LiveError, STATE_LIMIT, TOTAL_LIMIT};
use crate::clock::now;
use crate::model::{Day, Days};
use crate::store::StoreError;

/// The longest wait, after which the wall clock is read again: it may have been set.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);
/// The minimum interval between reads: an upload can change one day many times.
const READ_INTERVAL: Duration = Duration::from_millis(100);
/// The longest interval between attempts to read while the store fails.
const RETRY_LIMIT: Duration = Duration::from_secs(10);

/// The first state of `query`.
pub(super) async fn first(hub: &Hub, query: &Query) -> Result<State, LiveError> {
    let now = now();
    let within = query.span.days_at(now).ok_or(LiveError::TooLarge)?;
    let all = days_of(&within);
    let mut state = State::default();
    match read(hub, query, &all, now).await? {
        Listed::Entries(entries) => state.replace(&all, &within, entries),
        Listed::TooMany => return Err(LiveError::TooLarge),
    };
    if is_too_large(&state) {
        return Err(LiveError::TooLarge);
    }
    while hub.total_bytes() + state.bytes() > TOTAL_LIMIT {
        if !hub.close_longest_idle() {
            return Err(LiveError::Full);
        }
    }
    Ok(state)
}

/// Follows `query`, whose state is in `channel`, until it is idle or too large.
pub(super) async fn follow(hub: Weak<Hub>, query: Query, channel: Arc<Channel>, pending: Arc<PendingDays>) {
    let mut within = query.span.days_at(now());
    let mut read_after = Instant::now();
    let mut failures = 0;
    loop {
        wait(&query, &channel, &pending, read_after).await;
        let Some(hub) = hub.upgrade() else { return };
        if channel.idle().is_some_and(|idle| idle >= IDLE_LIMIT) && hub.close(&query, &channel, true) {
            return;
        }
        let now = now();
        channel.update(|state| state.start(now));
        let Some(window) = query.span.days_at(now) else { continue };
        let mut days = BTreeSet::new();
        if Instant::now() >= read_after {
            days = match pending.take() {
                Days::Named(days) => days.into_iter().filter(|day| window.contains(day)).collect(),
                Days::All => days_of(&window),
            };
        }
        if within.as_ref() != Some(&window) {
            let is_new = |day: &Day| !within.as_ref().is_some_and(|within| within.contains(day));
            days.extend(days_of(&window).into_iter().filter(is_new));
            channel.update(|state| state.replace(&BTreeSet::new(), &window, Vec::new()));
            within = Some(window.clone());
        }
        if days.is_empty() {
            continue;
        }
        let pause = match read(&hub, &query, &days, now).await {
            Ok(Listed::Entries(entries)) => {
                failures = 0;
                channel.update(|state| state.replace(&days, &window, entries));
                // Before subscribers are disconnected.
                while hub.total_bytes() > TOTAL_LIMIT && hub.close_longest_idle() {}
                if channel.read(is_too_large) || hub.total_bytes() > TOTAL_LIMIT {
                    hub.close(&query, &channel, false);
                    return;
                }
                READ_INTERVAL
            }
            Ok(Listed::TooMany) => {
                hub.close(&query, &channel, false);
                return;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "the changes of a stream could not be read; the read is retried");
                }
                failures += 1;
                pending.add(days.into_iter().collect());
                RETRY_LIMIT.min(READ_INTERVAL * 2_u32.saturating_pow(failures))
            }
        };
        read_after = Instant::now() + pause;
    }
}

/// Waits until there is something to do: changed days, not before `read_after`; the start of an entry; a
/// change of the days.
async fn wait(query: &Query, channel: &Channel, pending: &PendingDays, read_after: Instant) {
    let due = [channel.read(State::next_start), query.span.changes_after(now())];
    let left = due.into_iter().flatten().map(until).min().unwrap_or(CLOCK_INTERVAL).min(CLOCK_INTERVAL);
    let changed = async {
        sleep_until(read_after).await;
        pending.some().await;
    };
    tokio::select! {
        () = changed => {}
        () = sleep(left) => {}
    }
}

/// The time until `second` since the Unix epoch.
fn until(second: i64) -> Duration {
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap_or_default());
    moment.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn read(hub: &Hub, query: &Query, days: &BTreeSet<Day>, now: i64) -> Result<Listed, StoreError> {
    // The semaphore is never closed.
    let _permit = hub.reads.acquire().await;
    read::entries(&hub.store, query, days, now).await
}

fn is_too_large(state: &State) -> bool {
    state.len() > read::ENTRIES_LIMIT || state.bytes() > STATE_LIMIT
}

/// The days of `range`, at most [`DAYS_LIMIT`].
fn days_of(range: &RangeInclusive<Day>) -> BTreeSet<Day> {
    (0..DAYS_LIMIT).filter_map(|days| range.start().checked_add(days)).filter(|day| range.contains(day)).collect()
}
