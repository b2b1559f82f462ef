//! The calendar of a month and the timeline of a day.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::request::Parts;

use super::super::parameters::Parameters;
use super::super::{App, HandlerResult, clock_error};
use super::request::respond_from_store;
use crate::clock::now;
use crate::model::{Day, PageRequest, Selection, Sort, WallClock};
use crate::page::{self, Calendar, DayView, Month};
use crate::respond::HttpError;
use crate::store::Listing;

/// The maximum number of streams in a timeline.
const TIMELINE: usize = 500;
/// Days of a month that are read at the same time.
const CONCURRENT: usize = 4;

/// `200` with the calendar: of `month`, or of the month of `day`, or of today. Of a month without a day, the first day
/// with streams is shown.
pub(crate) async fn calendar(app: &App, parts: &Parts) -> HandlerResult {
    respond_from_store(app, parts, &["day", "month", "from"], async |parameters, view| {
        let today = WallClock::at_unix(now()).map(WallClock::day).ok_or_else(clock_error)?;
        let (month, day) = chosen(&parameters, today)?;
        let counts = counts(app, month).await?;
        let busy = counts.iter().find(|(_, count)| **count > 0).map(|(day, _)| *day);
        let day = day.or(busy).unwrap_or(month.first());
        let from = parameters.first("from").unwrap_or_default();
        let day = timeline(app, day, from, counts.get(&day).copied()).await?;
        Ok(page::calendar(&view, &Calendar { today, month, counts, day }))
    })
    .await
}

/// The month, and the day if it is stated.
fn chosen(parameters: &Parameters, today: Day) -> Result<(Month, Option<Day>), HttpError> {
    let no_day = || HttpError::bad_request("the day is not one of the calendar");
    let no_month = || HttpError::bad_request("the month is not one of the calendar");
    let day = parameters.first("day").map(Day::parse_any).transpose().map_err(|_| no_day())?;
    let month = parameters.first("month").map(|month| Month::parse(month).ok_or_else(no_month));
    match (month.transpose()?, day) {
        (Some(month), day) => Ok((month, day)),
        (None, day) => {
            let day = day.unwrap_or(today);
            Ok((Month::of(day).ok_or_else(no_day)?, Some(day)))
        }
    }
}

/// The number of streams of each day, from the store's indexes.
async fn counts(app: &App, month: Month) -> Result<BTreeMap<Day, u64>, HttpError> {
    let count = async |day: Day| {
        let listing = list(app, day.datetimes(), 0).await?;
        Ok::<_, HttpError>((day, listing.total))
    };
    stream::iter(month.days()).map(count).buffered(CONCURRENT).try_collect().await
}

/// The streams of a day that start at the time `from`, `hhmmss`, or later. `total` is the number of all of the day.
async fn timeline(app: &App, day: Day, from: &str, total: Option<u64>) -> Result<DayView, HttpError> {
    if from.len() > 6 || !from.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HttpError::bad_request("the start is not a time as hhmmss"));
    }
    let whole = day.datetimes();
    let listing = list(app, format!("{}{from}", whole.start)..whole.end, TIMELINE + 1).await?;
    let mut holodules = listing.entries;
    let time = |datetime: &str| datetime.get(9..).unwrap_or_default().to_owned();
    let later = holodules.get(TIMELINE).and_then(|next| next.datetime.as_deref().map(time));
    holodules.truncate(TIMELINE);
    // A link to the same time would show the same streams.
    let later = later.filter(|later| later != from);
    let unreadable = listing.unreadable.len();
    Ok(DayView { day, total: total.unwrap_or(listing.total), holodules, unreadable, later })
}

async fn list(app: &App, range: Range<String>, limit: usize) -> Result<Listing, HttpError> {
    let selection = Selection { ranges: vec![range], ..Selection::default() };
    let page = PageRequest { sort: Sort::Ascending, limit, after: None };
    app.store.list(&selection, &page).await.map_err(|error| app.store_failed(&error))
}
