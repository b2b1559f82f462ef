//! The search for streams.

use std::collections::BTreeSet;

use http::request::Parts;

use super::super::lists::{decode_cursor, encode_cursor};
use super::super::parameters::Parameters;
use super::super::{App, HandlerResult};
use super::request::respond_from_store;
use crate::clock::now;
use crate::model::{Code, Day, Filter, Needle, PageRequest, Sort, WallClock, datetimes_of};
use crate::page::{self, Found, Search, SearchProblem};
use crate::respond::HttpError;

/// Streams on a page of the result.
const PAGE: usize = 100;
/// The maximum number of days of a search for a text, which reads every stream of its days.
const TEXT_DAYS: i64 = 92;
/// The maximum number of days of other searches.
const DAYS: i64 = 366;
/// Days before and after today that are searched by default.
const AROUND: i64 = 31;

/// `200` with the form, and with the result if the address has search criteria.
pub(crate) async fn search(app: &App, parts: &Parts) -> HandlerResult {
    respond_from_store(app, parts, &["q", "streamer", "from", "to", "order", "cursor"], async |parameters, view| {
        let streamers = app.store.streamers().await.map_err(|error| app.store_failed(&error))?;
        let days = days(&parameters)?;
        let (text, streamer) =
            (parameters.first("q").unwrap_or_default(), parameters.first("streamer").unwrap_or_default());
        let latest_first = parameters.first("order") != Some("earliest");
        let mut search =
            Search { text, streamer, days, latest_first, streamers: &streamers, problem: None, found: None };
        if parameters.first("from").is_some() || !text.is_empty() || !streamer.is_empty() {
            match filter(text, streamer, days) {
                Ok(filter) => {
                    let selection = filter.select(vec![datetimes_of(days.0, days.1)], &streamers);
                    let sort = if latest_first { Sort::Descending } else { Sort::Ascending };
                    let query = format!("{text}\0{streamer}\0{}\0{}\0{latest_first}", days.0, days.1);
                    let after = parameters.first("cursor").map(|cursor| decode_cursor(query.as_bytes(), cursor));
                    let after = after.transpose().map_err(HttpError::bad_request)?;
                    search.found = Some(find(app, &selection, PageRequest { sort, limit: PAGE, after }, &query).await?);
                }
                Err(problem) => search.problem = Some(problem),
            }
        }
        Ok(page::search(&view, &search))
    })
    .await
}

async fn find(
    app: &App,
    selection: &crate::model::Selection,
    page: PageRequest,
    query: &str,
) -> Result<Found, HttpError> {
    let listing = app.list(selection, &page).await?;
    Ok(Found {
        total: listing.total,
        unreadable: listing.unreadable.len(),
        next: listing.next.map(|position| encode_cursor(query.as_bytes(), &position)),
        holodules: listing.entries,
    })
}

/// The first and the last day of the search.
fn days(parameters: &Parameters) -> Result<(Day, Day), HttpError> {
    let day = |name: &str, invalid: &'static str| {
        let day = parameters.first(name).map(Day::parse_any).transpose();
        day.map_err(|_| HttpError::bad_request(invalid))
    };
    let today = WallClock::at_unix(now()).map(WallClock::day);
    let around = |days: i64| today.and_then(|today| today.checked_add(days));
    let (from, to) = (
        day("from", "the first day is not one of the calendar")?,
        day("to", "the last day is not one of the calendar")?,
    );
    let outside = || HttpError::bad_request("the days are outside of the calendar");
    let from = from.or_else(|| to.and_then(|to| to.checked_add(1 - TEXT_DAYS))).or_else(|| around(-AROUND));
    let from = from.ok_or_else(outside)?;
    let to = to.or_else(|| parameters.first("from").and_then(|_| from.checked_add(TEXT_DAYS - 1)));
    Ok((from, to.or_else(|| around(AROUND)).ok_or_else(outside)?))
}

/// The filter, or why there is none.
fn filter(text: &str, streamer: &str, (from, to): (Day, Day)) -> Result<Filter, SearchProblem> {
    let text = if text.is_empty() { None } else { Some(Needle::parse(text).map_err(|_| SearchProblem::Text)?) };
    match (to.days_since(from), &text) {
        (..0, _) => return Err(SearchProblem::DaysReversed),
        (TEXT_DAYS.., Some(_)) => return Err(SearchProblem::TooManyDaysForText(TEXT_DAYS)),
        (DAYS.., None) => return Err(SearchProblem::TooManyDays(DAYS)),
        _ => {}
    }
    let set = || BTreeSet::from([streamer.to_owned()]);
    let (codes, names) = match (streamer, Code::parse(streamer)) {
        ("", _) => (BTreeSet::new(), BTreeSet::new()),
        (_, Ok(_)) => (set(), BTreeSet::new()),
        (_, Err(_)) => (BTreeSet::new(), set()),
    };
    Ok(Filter { codes, names, text, ..Filter::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamer_is_a_code_or_a_name_and_days_are_bounded() {
        let day = |text| Day::parse(text).unwrap();
        let (from, to) = (day("20201201"), day("20201231"));
        assert_eq!(filter("", "HL0503", (from, to)).unwrap().codes.len(), 1);
        assert_eq!(filter("", "尾丸ポルカ", (from, to)).unwrap().names.len(), 1);
        assert_eq!(filter("", "", (from, to)).unwrap(), Filter::default());
        let problem = |text, days| filter(text, "", days).unwrap_err();
        assert_eq!(problem("a\0", (from, to)), SearchProblem::Text);
        assert!(filter("a", "", (from, day("20210302"))).is_ok(), "92 days");
        assert_eq!(problem("a", (from, day("20210303"))), SearchProblem::TooManyDaysForText(92));
        assert!(filter("", "", (from, day("20211201"))).is_ok(), "366 days");
        assert_eq!(problem("", (from, day("20211202"))), SearchProblem::TooManyDays(366));
        assert_eq!(problem("", (to, from)), SearchProblem::DaysReversed);
    }
}
