//! Schedules, the form of streams in the author's later service.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::day::{Day, WallClock};
use super::holodule::Holodule;
use super::needle::Needle;
use super::streamer::Streamers;

/// The maximum number of schedules in a response.
pub const SCHEDULES_LIMIT: usize = 1000;

/// A stream in the later service's form. The serialized form has every field, in its order; a missing value is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Schedule {
    /// The id in the store, as text.
    pub id: String,
    /// The streamer's code.
    #[schema(required)]
    pub code: Option<String>,
    /// The video's id at YouTube.
    #[schema(required)]
    pub video_id: Option<String>,
    /// The start in Japan standard time, `yyyy-mm-ddThh:mm:ss`.
    #[schema(required)]
    pub streaming_at: Option<String>,
    /// The streamer's name.
    #[schema(required)]
    pub name: Option<String>,
    /// The stream's title.
    #[schema(required)]
    pub title: Option<String>,
    /// The URL of the stream.
    #[schema(required)]
    pub url: Option<String>,
    /// The stream's description.
    #[schema(required)]
    pub description: Option<String>,
    /// When the video was published, in UTC, `yyyy-mm-ddThh:mm:ss`.
    #[schema(required)]
    pub published_at: Option<String>,
    /// The channel's id at YouTube.
    #[schema(required)]
    pub channel_id: Option<String>,
    /// The channel's title.
    #[schema(required)]
    pub channel_title: Option<String>,
    /// The video's tags.
    pub tags: Vec<String>,
    /// `<code>_<yyyymmdd>_<hhmmss>` of `streaming_at`, or empty without a code. Not the stored key of a holodule, which
    /// may have an earlier time.
    pub key: String,
}

impl Schedule {
    /// A holodule in this form.
    pub fn of(id: String, holodule: &Holodule) -> Self {
        let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        let code = holodule.effective_code().map(str::to_owned);
        let starts_at = holodule.starts_at();
        Self {
            id,
            key: Self::built_key(code.as_deref(), starts_at),
            code,
            video_id: holodule.video_id.clone(),
            streaming_at: starts_at.map(WallClock::iso),
            name: holodule.name.clone(),
            title: holodule.title.clone(),
            url: holodule.url.clone(),
            description: holodule.description.clone(),
            published_at: holodule.published_at.as_ref().and_then(utc),
            channel_id: text(&holodule.channel_id),
            channel_title: text(&holodule.channel_title),
            tags: holodule.tag_texts().map(str::to_owned).collect(),
        }
    }

    /// The key of a schedule, `<code>_<yyyymmdd>_<hhmmss>`; empty if the code or the start is missing.
    pub fn built_key(code: Option<&str>, streaming_at: Option<WallClock>) -> String {
        match (code, streaming_at) {
            (Some(code), Some(at)) => format!("{code}_{}", at.to_string().replace(' ', "_")),
            _ => String::new(),
        }
    }
}

/// A time in UTC without offset. Text that is not an RFC 3339 time is returned unchanged.
fn utc(value: &Value) -> Option<String> {
    let instant = match value {
        Value::String(text) => {
            let Ok(instant) = OffsetDateTime::parse(text, &Rfc3339) else { return Some(text.clone()) };
            instant.unix_timestamp()
        }
        // A date of MongoDB, in extended JSON.
        value => match value.get("$date")? {
            Value::String(text) => OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp(),
            date => date.get("$numberLong")?.as_str()?.parse::<i64>().ok()?.div_euclid(1000),
        },
    };
    WallClock::in_utc(instant).map(WallClock::iso)
}

/// Which schedules are selected. Those without a readable start are in no list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScheduleQuery {
    /// The first day; `None` if it does not matter.
    pub from: Option<Day>,
    /// The last day, inclusive; `None` if it does not matter.
    pub to: Option<Day>,
    /// The code is one of these. If it is empty, codes do not matter.
    pub codes: BTreeSet<String>,
    /// A text in title, name or description.
    pub keyword: Option<Needle>,
}

impl ScheduleQuery {
    /// Adds a code, and the codes of a group. A group without streamers adds none, so that it alone does not restrict
    /// the selection, as in the later service.
    #[must_use]
    pub fn with_codes(mut self, code: Option<&str>, group: Option<&str>, streamers: &Streamers) -> Self {
        let in_group = group.into_iter().flat_map(|group| streamers.codes_of(group));
        self.codes.extend(code.into_iter().chain(in_group).map(str::to_owned));
        self
    }

    /// Whether it selects a schedule that starts in its days.
    pub fn matches(&self, schedule: &Schedule) -> bool {
        let has_code = || schedule.code.as_ref().is_some_and(|code| self.codes.contains(code));
        let texts = || [&schedule.title, &schedule.name, &schedule.description].into_iter().flatten();
        (self.codes.is_empty() || has_code())
            && self.keyword.as_ref().is_none_or(|keyword| texts().any(|text| keyword.is_in(text)))
    }

    /// The half-open range of stored `datetime` texts of its days.
    pub fn datetimes(&self) -> Range<String> {
        let start = self.from.map_or_else(|| "0000".to_owned(), |day| day.datetimes().start);
        let end = self.to.map_or_else(|| "9999:".to_owned(), |day| day.datetimes().end);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::streamer::Streamer;
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_holodule_has_the_form_of_a_schedule() {
        let holodule: Holodule = serde_json::from_value(json!({
            "key": "HL0503_20201209_230000", "video_id": "aaaaaaaaaaa", "datetime": "20201209 230000", "name": "n",
            "tags": ["a", 1], "published_at": { "$date": { "$numberLong": "1607526000123" } }, "channel_id": "UC",
        }))
        .unwrap();
        let schedule = Schedule::of("x".into(), &holodule);
        let expected = r#"{"id":"x","code":"HL0503","video_id":"aaaaaaaaaaa","streaming_at":"2020-12-09T23:00:00","name":"n","title":null,"url":null,"description":null,"published_at":"2020-12-09T15:00:00","channel_id":"UC","channel_title":null,"tags":["a"],"key":"HL0503_20201209_230000"}"#;
        assert_eq!(serde_json::to_string(&schedule).unwrap(), expected);
    }

    #[test]
    fn a_key_is_of_code_and_start_whatever_is_stored() {
        let key = |code: Option<&str>, key: Option<&str>, datetime: Option<&str>| {
            let [code, key, datetime] = [code, key, datetime].map(|text| text.map(Into::into));
            Schedule::of(String::new(), &Holodule { code, key, datetime, ..Holodule::default() }).key
        };
        let moved = Some("HL0002_20230101_120000");
        assert_eq!(key(None, moved, Some("20230102 130000")), "HL0002_20230102_130000");
        assert_eq!(key(Some("HL0503"), moved, Some("20230102 130000")), "HL0503_20230102_130000");
        assert_eq!(key(Some("HL0503"), None, Some("20201209 230000")), "HL0503_20201209_230000");
        assert_eq!(key(None, Some("xxx"), Some("20201209 230000")), "");
        assert_eq!(key(Some("HL0503"), moved, Some("20201209 250000")), "");
        assert_eq!(key(None, None, Some("20201209 230000")), "");
    }

    #[test]
    fn times_are_utc_without_offset() {
        assert_eq!(utc(&json!("2020-12-10T00:00:00+09:00")).as_deref(), Some("2020-12-09T15:00:00"));
        assert_eq!(utc(&json!({ "$date": "2020-12-09T15:00:00.5Z" })).as_deref(), Some("2020-12-09T15:00:00"));
        assert_eq!(utc(&json!({ "$date": { "$numberLong": "-1" } })).as_deref(), Some("1969-12-31T23:59:59"));
        assert_eq!(utc(&json!("soon")).as_deref(), Some("soon"));
        for other in [json!(1), json!({ "$date": 1 }), json!({ "$date": { "$numberLong": "9223372036854775807" } })] {
            assert_eq!(utc(&other), None);
        }
    }

    #[test]
    fn codes_are_alternatives_and_an_empty_group_does_not_restrict() {
        let streamer = |code: &str| Streamer { code: code.into(), group: Some("a".into()), ..Streamer::default() };
        let streamers: Streamers = [streamer("HL0501"), streamer("HL0502")].into_iter().collect();
        let matches = |code, group, of: &str| {
            let schedule = Schedule { code: Some(of.into()), ..Schedule::default() };
            ScheduleQuery::default().with_codes(code, group, &streamers).matches(&schedule)
        };
        assert!(matches(Some("HL0503"), Some("a"), "HL0502"));
        assert!(matches(Some("HL0503"), Some("a"), "HL0503"));
        assert!(!matches(None, Some("a"), "HL0503"));
        assert!(matches(None, Some("b"), "HL0503"));
        assert!(!matches(Some("HL0501"), Some("b"), "HL0503"));
    }

    #[test]
    fn a_keyword_is_literal_in_title_name_or_description() {
        let query = ScheduleQuery { keyword: Some(Needle::parse("ＡＢ.").unwrap()), ..ScheduleQuery::default() };
        let of = |text: &str| Schedule { title: Some(text.into()), ..Schedule::default() };
        assert!(query.matches(&of("xab.x")));
        assert!(!query.matches(&of("abc")));
        assert!(query.matches(&Schedule { description: Some("AB.".into()), ..Schedule::default() }));
        assert!(query.matches(&Schedule { name: Some("ab.".into()), ..Schedule::default() }));
        assert!(!query.matches(&Schedule { channel_title: Some("ab.".into()), ..Schedule::default() }));
    }

    #[test]
    fn days_are_inclusive_and_optional() {
        let range = |from: Option<&str>, to: Option<&str>| {
            ScheduleQuery { from: from.map(day), to: to.map(day), ..ScheduleQuery::default() }.datetimes()
        };
        let one = range(Some("20201209"), Some("20201209"));
        assert!(one.contains(&"20201209 000000".to_owned()) && one.contains(&"20201209 235959".to_owned()));
        assert!(!one.contains(&"20201208 235959".to_owned()) && !one.contains(&"20201210 000000".to_owned()));
        for datetime in ["00000101 000000", "99991231 235959"] {
            assert!(range(None, None).contains(&datetime.to_owned()));
        }
    }
}
