//! Schedules, for clients of the author's later service.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::contract::{ScheduleErrors, ScheduleParameters, StreamerErrors};
use super::super::parameters::Parameters;
use super::super::tagged::Tagged;
use super::super::{App, HandlerResult, store_failed};
use super::CACHED;
use super::streamers::{identified, missing};
use crate::model::{Day, Needle, Schedule, ScheduleQuery, Streamers};
use crate::respond::HttpError;

/// The response to `GET /schedules`.
#[derive(Serialize, ToSchema)]
pub(in crate::handler) struct ScheduleList {
    /// The latest start first, at most 1,000.
    schedules: Vec<Schedule>,
}

/// The parameters of `GET /schedules`. As in the author's service, an empty one counts as missing, the first of several
/// is used, and unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SchedulesParameters {
    /// `sdate`: the first day, of Japan, as `yyyy-mm-dd`.
    from: Option<Day>,
    /// `edate`: the last day.
    to: Option<Day>,
    /// `code` of a streamer.
    code: Option<String>,
    /// `group` of streamers: their codes are alternatives to `code`.
    group: Option<String>,
    /// `keyword`: a text in title, name or description, taken literally.
    keyword: Option<Needle>,
}

impl SchedulesParameters {
    /// # Errors
    /// `400` for a date or a keyword that is malformed, with the name of the parameter, or a query that is not UTF-8;
    /// `414` if it is too long.
    fn parse(query: Option<&str>) -> Result<Self, HttpError> {
        let parameters = Parameters::decode(query)?;
        let day = |name: &'static str| {
            let wrong = || HttpError::bad_parameter(name, format!("{name} must be a day as yyyy-mm-dd"), None);
            let parse = |text| Day::parse_iso(text).map_err(|_| wrong());
            parameters.first(name).map(parse).transpose()
        };
        let keyword = |text| {
            Needle::parse(text).map_err(|error| HttpError::bad_parameter("keyword", format!("keyword {error}"), None))
        };
        Ok(Self {
            from: day("sdate")?,
            to: day("edate")?,
            code: parameters.first("code").map(str::to_owned),
            group: parameters.first("group").map(str::to_owned),
            keyword: parameters.first("keyword").map(keyword).transpose()?,
        })
    }

    fn resolve(self, streamers: &Streamers) -> ScheduleQuery {
        let Self { from, to, code, group, keyword } = self;
        let query = ScheduleQuery { from, to, keyword, ..ScheduleQuery::default() };
        query.with_codes(code.as_deref(), group.as_deref(), streamers)
    }
}

/// List schedules
///
/// `200` with the schedules, `304`; `400` with the name of the parameter if a date or the keyword is malformed. A
/// keyword has the limits of searches: `429`, `503`.
#[utoipa::path(
    get,
    path = "/schedules",
    operation_id = "listSchedules",
    tag = "schedules",
    params(ScheduleParameters),
    responses((status = 200, description = "The schedules.", body = ScheduleList), ScheduleErrors),
)]
pub(crate) async fn schedules(app: &App, parts: &Parts) -> HandlerResult {
    let query = match SchedulesParameters::parse(parts.uri.query()) {
        Ok(query) => query,
        Err(error) => {
            return match error.parameter() {
                Some(name) => Ok(identified(error.status, &error.description, name)),
                None => Err(error),
            };
        }
    };
    let query = if query.group.is_some() {
        query.resolve(&*app.streamers().await?)
    } else {
        query.resolve(&Streamers::default())
    };
    if query.keyword.is_some() {
        app.lists.search.count(Instant::now())?;
    }
    let begin = || {
        let (store, metrics, search) = (app.store.clone(), Arc::clone(&app.metrics), Arc::clone(&app.lists.search));
        let query = query.clone();
        async move {
            let read = store.schedules(&query);
            let schedules = if query.from.zip(query.to).is_some_and(|(from, to)| to < from) {
                Ok(Vec::new())
            } else if query.keyword.is_some() {
                search.run(read).await?
            } else {
                read.await
            };
            Tagged::json(&ScheduleList { schedules: schedules.map_err(|error| store_failed(&metrics, &error))? })
        }
    };
    let key = (query.clone(), app.store.version());
    Ok(app.lists.schedule_reads.join(key, begin).await?.into_response(&parts.headers, CACHED))
}

/// Read a schedule
///
/// `200` with the schedule with this id, `304`, `404`.
#[utoipa::path(
    get,
    path = "/schedules/{id}",
    operation_id = "readSchedule",
    tag = "schedules",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]+$", description = "The id of a schedule.")),
    responses((status = 200, description = "The schedule.", body = Schedule), StreamerErrors),
)]
pub(crate) async fn schedule(app: &App, parts: &Parts, id: &str) -> HandlerResult {
    match app.store.schedule(id).await.map_err(|error| app.store_failed(&error))? {
        Some(schedule) => Ok(Tagged::json(&schedule)?.into_response(&parts.headers, CACHED)),
        None => Ok(missing("Schedule not found", id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_by_the_authors_service() {
        let parse = |query| SchedulesParameters::parse(Some(query));
        let day = |text| Some(Day::parse(text).unwrap());
        let full = SchedulesParameters {
            from: day("20231201"),
            to: day("20231202"),
            code: Some("HL0001".into()),
            group: Some("a b".into()),
            keyword: Some(Needle::parse(".*").unwrap()),
        };
        let query = "sdate=2023-12-01&edate=2023-12-02&code=HL0001&code=x&group=a+b&keyword=.%2A&page=2";
        assert_eq!(parse(query), Ok(full));
        assert_eq!(parse("sdate=&edate=&code=&group=&keyword="), Ok(SchedulesParameters::default()));
        for (bad, parameter) in [
            ("sdate=2023-12-32", Some("sdate")),
            ("sdate=20231201", Some("sdate")),
            ("edate=x", Some("edate")),
            ("keyword=%00", Some("keyword")),
            ("keyword=+", Some("keyword")),
            ("code=%FF", Some("code")),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!((error.status, error.parameter()), (http::StatusCode::BAD_REQUEST, parameter), "{bad}");
        }
    }
}
