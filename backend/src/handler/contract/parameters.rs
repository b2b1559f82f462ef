//! The parameters of lists. [`super::super::lists`] parses them; a test compares the names.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Required, Schema};

use crate::model::{FILTER_VALUES_LIMIT, NEEDLE_LIMIT, PAGE_LIMIT};

/// Texts without control characters.
const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The day in a path.
pub(in crate::handler) struct DayParameters;

/// The parameters of `GET /holodules`.
pub(in crate::handler) struct ListParameters;

/// The parameters of lists of a streamer.
pub(in crate::handler) struct StreamerListParameters;

/// The parameters that select streams, as of `GET /now`.
pub(in crate::handler) struct FilterParameters;

/// The parameters of the stream of changes.
pub(in crate::handler) struct StreamParameters;

/// The parameters of `GET /schedules`.
pub(in crate::handler) struct ScheduleParameters;

impl IntoParams for DayParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = text().pattern(Some("^[0-9]{8}$")).build();
        let day = ParameterBuilder::new().name("day").parameter_in(ParameterIn::Path).required(Required::True);
        let day = day.description(Some("A day of Japan as `yyyymmdd`.")).schema(Some(schema));
        vec![day.build()]
    }
}

impl IntoParams for ListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [days(), selectors(), paging()].concat()
    }
}

impl IntoParams for StreamerListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let tags = selectors().into_iter().filter(|parameter| parameter.name == "tag").collect();
        [days(), tags, paging()].concat()
    }
}

impl IntoParams for FilterParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        selectors()
    }
}

impl IntoParams for StreamParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let days = vec![
            one("from", "The first day, of Japan; by default today, or six days before `to`.", day()),
            one("to", "The last day; by default six days after `from`. At most 92 days.", day()),
        ];
        let last = ParameterBuilder::new().name("Last-Event-ID").parameter_in(ParameterIn::Header);
        let last = last.required(Required::False).schema(Some(text().build()));
        let last =
            last.description(Some("The `id` of the last event of an earlier connection: the stream continues there."));
        let parameter = one(
            "last_event_id",
            "The same, for clients that cannot send the header field, as a new `EventSource`.",
            text(),
        );
        [days, selectors(), vec![parameter, last.build()]].concat()
    }
}

impl IntoParams for ScheduleParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let day = || text().pattern(Some("^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"));
        vec![
            one(
                "sdate",
                "The first day, of Japan, as `yyyy-mm-dd`. An empty value of any parameter counts as missing.",
                day(),
            ),
            one("edate", "The last day.", day()),
            one("code", "The code of a streamer.", text()),
            one("group", "A group: the codes of its streamers are alternatives to `code`.", text()),
            one(
                "keyword",
                "A text to find in title, name or description, matched literally.",
                text().max_length(Some(NEEDLE_LIMIT)).pattern(Some(NO_CONTROLS)),
            ),
        ]
    }
}

fn day() -> ObjectBuilder {
    text().pattern(Some("^[0-9]{4}(-[0-9]{2}-[0-9]{2}|[0-9]{4})$"))
}

fn days() -> Vec<Parameter> {
    vec![
        one(
            "from",
            "The first day, of Japan, as `yyyymmdd` or `yyyy-mm-dd`; by default today, or six days before `to`.",
            day(),
        ),
        one("to", "The last day; by default six days after `from`. At most 366 days, 92 with `q`.", day()),
    ]
}

fn selectors() -> Vec<Parameter> {
    vec![
        several("code", "Codes of streamers, such as `HL0503`: any of them.", text().min_length(Some(1))),
        several("name", "Names of streamers, exactly as stored: any of them.", text()),
        several("group", "Groups of streamers: any of them.", text().min_length(Some(1))),
        several("tag", "Tags, exactly as stored: any of them.", text()),
    ]
}

fn paging() -> Vec<Parameter> {
    let status = text().enum_values(Some(["upcoming", "live", "past"]));
    let searched = text().min_length(Some(1)).max_length(Some(NEEDLE_LIMIT)).pattern(Some(NO_CONTROLS));
    let sort = text().enum_values(Some(["starts_at", "-starts_at"]));
    let limit = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).minimum(Some(1));
    vec![
        one(
            "q",
            "A text to find in title, name or description, matched literally. Case and width are ignored.",
            searched,
        ),
        several(
            "status",
            "Whether the stream has started. A stream counts as live for the assumed duration after its start (two hours \
             by default), since its end is not known.",
            status,
        ),
        one("sort", "`starts_at`, the default, or `-starts_at` for the latest first.", sort),
        one("limit", "Entries of a page; 100 by default.", limit.maximum(Some(PAGE_LIMIT))),
        one(
            "cursor",
            "The `next` of the previous page, with the other parameters unchanged except `limit`.",
            text().min_length(Some(1)),
        ),
    ]
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}

fn one(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, description, schema.build())
}

/// A parameter that may be repeated. The limit is one of different values, which no schema can express.
fn several(name: &str, description: &str, of: ObjectBuilder) -> Parameter {
    let description = format!("{description} At most {FILTER_VALUES_LIMIT} different values.");
    parameter(name, &description, ArrayBuilder::new().items(of.build()).build())
}

fn parameter(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::False);
    let parameter = parameter.description(Some(description)).schema(Some(schema));
    parameter.style(Some(ParameterStyle::Form)).explode(Some(true)).build()
}
