//! The query of a list of holodules: parsed, validated, and resolved to a selection of the store.

use std::collections::BTreeSet;

use super::super::clock_error;
use super::super::parameters::{Parameters, bad, unknown};
use super::cursor::{self, QueryDigest};
use super::status::{Boundaries, Status};
use crate::model::{
    Code, Day, Filter, Needle, PAGE_LIMIT, PageRequest, Selection, Sort, Streamers, WallClock, datetimes_of,
};
use crate::respond::HttpError;

/// The maximum number of days of a list.
pub(super) const DAYS: i64 = 366;
/// The maximum number of days of a list with `q`, for which the store reads every holodule of the days.
pub(super) const SEARCHED_DAYS: i64 = 92;
/// The number of days of a list after the first, if the query has at most one of `from` and `to`.
const DEFAULT_DAYS: i64 = 6;
/// Entries of a page, if the query has no `limit`.
const DEFAULT_LIMIT: usize = 100;

/// The parameters that select streamers; `GET /streamers/{code}/holodules` has none of them.
const OF_STREAMERS: [&str; 3] = ["code", "name", "group"];
const SORTS: [(&str, Sort); 2] = [("starts_at", Sort::Ascending), ("-starts_at", Sort::Descending)];

/// The parameters of `GET /holodules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// The first day, of Japan, as `yyyymmdd` or `yyyy-mm-dd`. By default today; six days before `to` if only that is
    /// set.
    pub(super) from: Option<Day>,
    /// The last day. By default six days after `from`. At most 366 days are listed.
    pub(super) to: Option<Day>,
    /// `code`, `name`, `group`, `tag` (each may be repeated: any of the values) and `q`, a text in title, name or
    /// description, ignoring case and width; only for at most 92 days.
    pub(super) filter: Filter,
    /// `status`: `upcoming`, `live` or `past`; may be repeated.
    pub(super) statuses: BTreeSet<Status>,
    /// `sort`: `starts_at` (the default) or `-starts_at`.
    pub(super) sort: Sort,
    /// `limit`: entries of a page, 1 to 1000; 100 by default.
    pub(super) limit: usize,
    /// `cursor`: the `next` of the previous page, of a query with the same other parameters except `limit`.
    pub(super) cursor: Option<String>,
}

/// A query resolved at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) selection: Selection,
    pub(super) page: PageRequest,
    pub(super) digest: QueryDigest,
    /// Whether the response changes with the clock alone.
    pub(super) depends_on_clock: bool,
}

/// The time of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
    /// How long a stream counts as live, in seconds.
    pub(super) assumed_duration: u32,
}

impl ListQuery {
    /// Parses the query of `/holodules`.
    ///
    /// # Errors
    /// `400` for the first parameter that is wrong, `414` if the query is too long.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, HttpError> {
        let known = ["from", "to", "code", "name", "group", "tag", "q", "status", "sort", "limit", "cursor"];
        Self::of(&Parameters::decode(query)?.only(&known)?)
    }

    /// Parses the query of `/streamers/{code}/holodules`.
    ///
    /// # Errors
    /// Those of [`ListQuery::parse`].
    pub(super) fn parse_of_streamer(query: Option<&str>, code: &str) -> Result<Self, HttpError> {
        let known = ["from", "to", "tag", "q", "status", "sort", "limit", "cursor"];
        let mut query = Self::of(&Parameters::decode(query)?.only(&known)?)?;
        query.filter.codes = BTreeSet::from([code.to_owned()]);
        Ok(query)
    }

    fn of(parameters: &Parameters) -> Result<Self, HttpError> {
        let status = |text: String| {
            let known = || Status::ALL.map(|status| status.as_str().to_owned()).to_vec();
            Status::parse(&text).ok_or_else(|| unknown("status", &text, known()))
        };
        let sort = |text: &str| {
            let known = || SORTS.map(|(name, _)| name.to_owned()).to_vec();
            let found = SORTS.iter().find(|(name, _)| *name == text);
            found.map(|(_, sort)| *sort).ok_or_else(|| unknown("sort", text, known()))
        };
        Ok(Self {
            from: day(parameters, "from")?,
            to: day(parameters, "to")?,
            filter: filter(parameters)?,
            statuses: parameters.all("status")?.into_iter().map(status).collect::<Result<_, _>>()?,
            sort: parameters.one("sort")?.map(sort).transpose()?.unwrap_or_default(),
            limit: parameters.one("limit")?.map(limit).transpose()?.unwrap_or(DEFAULT_LIMIT),
            cursor: parameters.one("cursor")?.map(str::to_owned),
        })
    }

    /// Checks the query against the streamers, and resolves groups and relative days.
    ///
    /// # Errors
    /// `400` for an unknown code or group, too many days, or a cursor of another query.
    pub(super) fn resolve(&self, moment: Moment, streamers: &Streamers) -> Result<Resolved, HttpError> {
        check_known(&self.filter, streamers)?;
        let (first, last) = self.days(moment.now)?;
        let mut ranges = vec![datetimes_of(first, last)];
        if !self.statuses.is_empty() {
            let boundaries = Boundaries::at(moment.now, moment.assumed_duration).ok_or_else(clock_error)?;
            let statuses: Vec<Status> = self.statuses.iter().copied().collect();
            ranges = ranges.iter().flat_map(|range| boundaries.narrow(range, &statuses)).collect();
        }
        let digest = self.digest();
        let after = self
            .cursor
            .as_deref()
            .map(|text| cursor::decode(&digest, text).map_err(|error| bad("cursor", &format!("cursor {error}"))));
        Ok(Resolved {
            selection: self.filter.select(ranges, streamers),
            page: PageRequest { sort: self.sort, limit: self.limit, after: after.transpose()? },
            digest,
            depends_on_clock: !self.statuses.is_empty() || (self.from.is_none() && self.to.is_none()),
        })
    }

    /// The first and the last day.
    fn days(&self, now: i64) -> Result<(Day, Day), HttpError> {
        let (first, last) = match (self.from, self.to) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, shifted(from, DEFAULT_DAYS)),
            (None, Some(to)) => (shifted(to, -DEFAULT_DAYS), to),
            (None, None) => {
                let today = WallClock::at_unix(now).ok_or_else(clock_error)?.day();
                (today, shifted(today, DEFAULT_DAYS))
            }
        };
        let count = last.days_since(first) + 1;
        if count < 1 {
            return Err(bad("to", "to is before from"));
        }
        if count > DAYS {
            return Err(bad("to", &format!("from and to are {count} days, over {DAYS}")));
        }
        if self.filter.text.is_some() && count > SEARCHED_DAYS {
            return Err(bad("q", &format!("q needs from and to of at most {SEARCHED_DAYS} days, not {count}")));
        }
        Ok((first, last))
    }

    /// A digest of the parameters as they were sent, without `limit` and `cursor`: a cursor of a query without days
    /// remains valid at midnight.
    fn digest(&self) -> QueryDigest {
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        let days = [self.from, self.to].map(|day| day.map(Day::iso));
        let canonical = serde_json::json!([days, self.filter, statuses, self.sort == Sort::Descending]);
        cursor::query_digest(canonical.to_string().as_bytes())
    }
}

/// The query of a stream of changes.
pub(crate) struct StreamQuery {
    /// The first day.
    pub(crate) from: Option<Day>,
    /// The last day.
    pub(crate) to: Option<Day>,
    /// The filter, without a text.
    pub(crate) filter: Filter,
    /// The id of the last event of an earlier connection, for clients that cannot send the field.
    pub(crate) last_event_id: Option<String>,
}

impl StreamQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// `400` for the first parameter that is wrong, `414` if the query is too long.
    pub(crate) fn parse(query: Option<&str>, streamers: &Streamers) -> Result<Self, HttpError> {
        let known = ["from", "to", "code", "name", "group", "tag", "last_event_id"];
        let parameters = Parameters::decode(query)?.only(&known)?;
        let (from, to, filter) = (day(&parameters, "from")?, day(&parameters, "to")?, filter(&parameters)?);
        check_known(&filter, streamers)?;
        let last_event_id = parameters.one("last_event_id")?.map(str::to_owned);
        Ok(Self { from, to, filter, last_event_id })
    }
}

/// The filters of a query.
///
/// # Errors
/// `400` for too many values, or a `q` that cannot be searched for.
pub(super) fn filter(parameters: &Parameters) -> Result<Filter, HttpError> {
    let [codes, names, groups] = OF_STREAMERS.map(|name| parameters.all(name));
    let text = parameters.one("q")?.map(|text| Needle::parse(text).map_err(|error| bad("q", &format!("q {error}"))));
    Ok(Filter { codes: codes?, names: names?, groups: groups?, tags: parameters.all("tag")?, text: text.transpose()? })
}

/// Checks that the streamers of a filter exist. Without any stored streamers, every well-formed code is accepted, and no
/// group.
///
/// # Errors
/// `400` with the known codes or groups.
pub(in crate::handler) fn check_known(filter: &Filter, streamers: &Streamers) -> Result<(), HttpError> {
    if let Some(code) = filter.codes.iter().find(|code| !is_known_code(code, streamers)) {
        return Err(unknown("code", code, streamers.iter().map(|streamer| streamer.code.clone()).collect()));
    }
    let groups = streamers.groups();
    match filter.groups.iter().find(|group| !groups.contains(group.as_str())) {
        None => Ok(()),
        Some(group) => Err(unknown("group", group, groups.into_iter().map(str::to_owned).collect())),
    }
}

/// Whether there is a streamer with this code; any well-formed code if there are no streamers.
pub(super) fn is_known_code(code: &str, streamers: &Streamers) -> bool {
    streamers.get(code).is_some() || (streamers.is_empty() && Code::parse(code).is_ok())
}

fn day(parameters: &Parameters, name: &'static str) -> Result<Option<Day>, HttpError> {
    let parse =
        |text| Day::parse_any(text).map_err(|_| bad(name, &format!("{name} must be a day as yyyymmdd or yyyy-mm-dd")));
    parameters.one(name)?.map(parse).transpose()
}

fn limit(text: &str) -> Result<usize, HttpError> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let within = number.filter(|number| (1..=PAGE_LIMIT).contains(number));
    within.ok_or_else(|| bad("limit", &format!("limit must be a number from 1 to {PAGE_LIMIT}")))
}

/// The day that is `days` later, or the last one before the end of the calendar.
fn shifted(day: Day, days: i64) -> Day {
    let steps = (0..=days.abs()).rev().map(|step| step * days.signum());
    steps.into_iter().find_map(|step| day.checked_add(step)).unwrap_or(day)
}

#[cfg(test)]
mod tests;
