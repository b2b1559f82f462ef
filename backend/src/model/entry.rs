//! A holodule in a list.

use serde::Serialize;
use utoipa::ToSchema;

use super::holodule::Holodule;
use super::streamer::Streamers;

/// An entry of a list: the fields of a day's list in their order, and what clients need besides.
///
/// A text that the document lacks is omitted, as in a day's list. `code` and the last four fields are always there, and
/// null if unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Entry<'a> {
    /// `<code>_<yyyymmdd>_<hhmmss>`, or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The code of the streamer: that of the document, else the beginning of its `key`.
    #[schema(required, example = "HL0503")]
    pub code: Option<&'a str>,
    /// The id of the video at YouTube, or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_id: Option<&'a str>,
    /// When the stream starts, `yyyymmdd hhmmss` in Japan standard time, as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datetime: Option<&'a str>,
    /// The name of the streamer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The title of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// The URL of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<&'a str>,
    /// The description of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// The start as RFC 3339 with the offset of Japan, `2020-12-09T23:00:00+09:00`; null if `datetime` is not a valid
    /// time.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2020-12-09T23:00:00+09:00")]
    pub starts_at: Option<EntryTime>,
    /// The group of the streamer.
    #[schema(required, example = "hololive")]
    pub group: Option<&'a str>,
    /// The id of the channel at YouTube: that of the document, else that of the streamer.
    #[schema(required)]
    pub channel_id: Option<&'a str>,
}

/// A time in an entry, serialized as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct EntryTime(pub super::day::WallClock);

impl From<EntryTime> for String {
    fn from(EntryTime(time): EntryTime) -> Self {
        time.rfc3339()
    }
}

impl<'a> Entry<'a> {
    /// The entry of `holodule`, whose streamer is one of `streamers` or unknown.
    pub fn of(holodule: &'a Holodule, streamers: &'a Streamers) -> Self {
        let streamer = streamers.of(holodule);
        let own_channel = holodule.channel_id.as_ref().and_then(serde_json::Value::as_str).filter(|id| !id.is_empty());
        Self {
            key: holodule.key.as_deref(),
            code: holodule.effective_code(),
            video_id: holodule.video_id.as_deref(),
            datetime: holodule.datetime.as_deref(),
            name: holodule.name.as_deref(),
            title: holodule.title.as_deref(),
            url: holodule.url.as_deref(),
            description: holodule.description.as_deref(),
            starts_at: holodule.starts_at().map(EntryTime),
            group: streamer.and_then(|streamer| streamer.group.as_deref()),
            channel_id: own_channel.or_else(|| streamer.and_then(|streamer| streamer.channel_id.as_deref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::streamer::Streamer;
    use super::*;

    fn shown(stored: serde_json::Value) -> String {
        let streamers = Streamers::from_iter([Streamer {
            code: "HL0503".into(),
            group: Some("hololive".into()),
            channel_id: Some("UC-streamer".into()),
            ..Streamer::default()
        }]);
        let holodule: Holodule = serde_json::from_value(stored).unwrap();
        serde_json::to_string(&Entry::of(&holodule, &streamers)).unwrap()
    }

    #[test]
    fn an_entry_has_the_fields_of_a_day_and_four_more() {
        let stored = json!({
            "description": "d", "url": "", "title": "t", "name": "n", "datetime": "20201209 230000", "video_id": "v",
            "key": "HL0503_20201209_230000", "tags": ["a"], "published_at": "p", "channel_title": "ct",
        });
        let expected = concat!(
            r#"{"key":"HL0503_20201209_230000","code":"HL0503","video_id":"v","datetime":"20201209 230000","name":"n","#,
            r#""title":"t","url":"","description":"d","starts_at":"2020-12-09T23:00:00+09:00","group":"hololive","#,
            r#""channel_id":"UC-streamer"}"#
        );
        assert_eq!(shown(stored.clone()), expected);
        let own = json!({ "channel_id": "UC-own", "code": "HL0503", "key": "" });
        let expected = r#"{"key":"","code":"HL0503","starts_at":null,"group":"hololive","channel_id":"UC-own"}"#;
        assert_eq!(shown(own), expected);
        for not_an_id in [json!(7), json!(""), json!(null)] {
            let mut stored = stored.clone();
            stored["channel_id"] = not_an_id;
            assert!(shown(stored).ends_with(r#""channel_id":"UC-streamer"}"#));
        }
    }

    #[test]
    fn what_is_unknown_is_null() {
        assert_eq!(
            shown(json!({ "title": "t", "datetime": "20201209 250000" })),
            r#"{"code":null,"datetime":"20201209 250000","title":"t","starts_at":null,"group":null,"channel_id":null}"#
        );
        let unlisted = shown(json!({ "code": "HLEN01" }));
        assert_eq!(unlisted, r#"{"code":"HLEN01","starts_at":null,"group":null,"channel_id":null}"#);
    }
}
