//! The calendar of a month and the timeline of a day.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::request::Parts;

use super::super::{App, HandlerResult};
use super::request::{Parameters, respond};
use crate::clock::now;
use crate::model::{Day, WallClock};
use crate::page::{self, Calendar, DayView, Month};
use crate::respond::HttpError;

/// The maximum number of streams in a timeline.
const TIMELINE: usize = 1000;
/// Days of a month that are read at the same time.
const CONCURRENT: usize = 4;

/// `200` with the calendar: of `month`, or of the month of `day`, or of today. Of a month without a day, the first day
/// with streams is shown.
pub(crate) async fn calendar(app: &App, parts: &Parts) -> HandlerResult {
    respond(parts, &["day", "month", "from"], async |parameters, view| {
        let today = WallClock::at_unix(now()).map(WallClock::day);
        let today = today.ok_or_else(|| HttpError::bad_request("the clock is outside of the calendar"))?;
        let (month, day) = chosen(&parameters, today)?;
        let counts = counts(app, month).await?;
        let busy = counts.iter().find(|(_, count)| **count > 0).map(|(day, _)| *day);
        let day = day.or(busy).unwrap_or(month.first());
        let day = timeline(app, day, parameters.get("from").unwrap_or_default()).await?;
        Ok(page::calendar(&view, &Calendar { today, month, counts, day }))
    })
    .await
}

/// The month, and the day if it is stated.
fn chosen(parameters: &Parameters, today: Day) -> Result<(Month, Option<Day>), HttpError> {
    let invalid = |name| HttpError::bad_request(format!("{name} is not one of the calendar"));
    let day = parameters.get("day").map(Day::parse_any).transpose().map_err(|_| invalid("the day"))?;
    let month = parameters.get("month").map(|month| Month::parse(month).ok_or_else(|| invalid("the month")));
    match (month.transpose()?, day) {
        (Some(month), day) => Ok((month, day)),
        (None, day) => {
            let day = day.unwrap_or(today);
            Ok((Month::of(day).ok_or_else(|| invalid("the day"))?, Some(day)))
        }
    }
}

async fn counts(app: &App, month: Month) -> Result<BTreeMap<Day, u64>, HttpError> {
    let count = async |day| {
        let listing = app.store.day(day).await.map_err(|error| app.store_failed(&error))?;
        Ok::<_, HttpError>((day, (listing.holodules.len() + listing.unreadable.len()) as u64))
    };
    stream::iter(month.days()).map(count).buffered(CONCURRENT).try_collect().await
}

/// The streams of a day that start at the time `from`, `hhmmss`, or later.
async fn timeline(app: &App, day: Day, from: &str) -> Result<DayView, HttpError> {
    let listing = app.store.day(day).await.map_err(|error| app.store_failed(&error))?;
    let (total, unreadable) = (listing.holodules.len() + listing.unreadable.len(), listing.unreadable.len());
    let time =
        |datetime: &Option<String>| datetime.as_deref().unwrap_or_default().get(9..).unwrap_or_default().to_owned();
    let mut holodules: Vec<_> =
        listing.holodules.into_iter().rev().filter(|holodule| time(&holodule.datetime).as_str() >= from).collect();
    let later = holodules.get(TIMELINE).map(|next| time(&next.datetime));
    holodules.truncate(TIMELINE);
    Ok(DayView { day, total: total as u64, holodules, unreadable, later })
}
