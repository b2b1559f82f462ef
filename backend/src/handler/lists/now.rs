//! The streams that are live, and those that start next.

use std::sync::Arc;

use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::contract::{FilterParameters, ListErrors};
use super::super::parameters::Parameters;
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult, clock_error, report_unreadable, store_failed};
use super::CACHED_BY_CLOCK;
use super::query::{check_known, filter};
use super::status::Boundaries;
use crate::model::{Entry, EntryTime, Filter, PAGE_LIMIT, PageRequest, Selection, Sort, Streamers, WallClock};
use crate::respond::HttpError;

/// The time before its start from which a stream is listed, in seconds.
const AHEAD: i64 = 48 * 3600;

/// The key of a coalesced read: the selection, the time in seconds since the Unix epoch, the version of the store.
pub(crate) type NowKey = (Selection, i64, u64);

/// The response to `GET /now`.
#[derive(Serialize, ToSchema)]
#[schema(as = Now)]
pub(in crate::handler) struct NowBody<'a> {
    /// The time that separates the two lists, as RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    now: EntryTime,
    /// The streams that started less than the assumed duration ago, earliest first.
    live: Vec<Entry<'a>>,
    /// The streams that start within 48 hours, earliest first.
    upcoming: Vec<Entry<'a>>,
}

/// The parameters of `GET /now`: `code`, `name`, `group` and `tag`, each of which may be repeated.
struct NowQuery {
    filter: Filter,
}

impl NowQuery {
    fn parse(query: Option<&str>) -> Result<Self, HttpError> {
        let parameters = Parameters::decode(query)?.only(&["code", "name", "group", "tag"])?;
        Ok(Self { filter: filter(&parameters)? })
    }

    /// The selection at `now`, and the first `datetime` text of an upcoming stream.
    fn resolve(
        &self,
        now: i64,
        assumed_duration: u32,
        streamers: &Streamers,
    ) -> Result<(Selection, String), HttpError> {
        check_known(&self.filter, streamers)?;
        let Boundaries { live, upcoming } = Boundaries::at(now, assumed_duration).ok_or_else(clock_error)?;
        let end = now.checked_add(AHEAD + 1).and_then(WallClock::at_unix).ok_or_else(clock_error)?;
        Ok((self.filter.select(vec![live..end.to_string()], streamers), upcoming))
    }
}

/// List current and next streams
///
/// `200` with the streams that are live and those that start within 48 hours, at most 1,000 streams in all; `304`;
/// `400` if the query is wrong.
#[utoipa::path(
    get,
    path = "/now",
    operation_id = "listCurrentHolodules",
    tag = "holodules",
    params(FilterParameters),
    responses((status = 200, description = "The streams.", body = NowBody<'_>), ListErrors),
)]
pub(crate) async fn now(app: &App, parts: &Parts) -> HandlerResult {
    let query = NowQuery::parse(parts.uri.query())?;
    let streamers = app.streamers().await?;
    let now = app.now();
    let time = WallClock::at_unix(now).ok_or_else(clock_error)?;
    let (selection, first_upcoming) = query.resolve(now, app.settings.lists.assumed_duration, &streamers)?;
    let begin = || {
        let (store, metrics, selection) = (app.store.clone(), Arc::clone(&app.metrics), selection.clone());
        async move {
            let page = PageRequest { sort: Sort::Ascending, limit: PAGE_LIMIT, after: None };
            let listing = store.list(&selection, &page).await.map_err(|error| store_failed(&metrics, &error))?;
            report_unreadable(&metrics, &listing.unreadable);
            // A `datetime` such as `20201209 225960` is between two times, and is none.
            let timed = listing.entries.iter().filter(|holodule| holodule.starts_at().is_some());
            let entries = timed.map(|holodule| Entry::of(holodule, &streamers));
            let (upcoming, live) =
                entries.partition(|entry| entry.datetime.is_some_and(|start| start >= first_upcoming.as_str()));
            Tagged::json(&NowBody { now: EntryTime(time), live, upcoming })
        }
    };
    let key = (selection.clone(), now, app.store.version());
    Ok(app.lists.now_reads.join(key, begin).await?.into_response(&parts.headers, CACHED_BY_CLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_is_what_is_live_or_starts_within_48_hours() {
        let now = WallClock::parse("20201209 230000").unwrap().unix();
        let query = NowQuery::parse(None).unwrap();
        let (selection, first_upcoming) = query.resolve(now, 7200, &Streamers::default()).unwrap();
        assert_eq!(selection.ranges, ["20201209 210001".to_owned().."20201211 230001".to_owned()]);
        assert_eq!(first_upcoming, "20201209 230001");
        assert!(query.resolve(i64::MAX, 7200, &Streamers::default()).is_err());
    }

    #[test]
    fn only_filters_are_parameters() {
        assert!(NowQuery::parse(Some("code=HL0001&code=HL0002&tag=x&name=y&group=z")).is_ok());
        for query in ["q=x", "limit=1", "status=live", "from=20201209"] {
            assert!(NowQuery::parse(Some(query)).is_err(), "{query}");
        }
    }
}
