//! A holodule as stored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::day::WallClock;
use super::identifier::Code;

/// The fields of a stored document. A field missing in the document is `None` and remains missing wherever the holodule
/// is written; values of older documents are shown unchanged.
///
/// The serialized form is the complete record in the order of the documents, as in exports. Clients of the api listener
/// see [`Holodule::public`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holodule {
    /// `<code>_<yyyymmdd>_<hhmmss>`, or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The streamer's code, in newer documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The video's id at YouTube, or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_id: Option<String>,
    /// `yyyymmdd hhmmss`, Japan standard time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime: Option<String>,
    /// The streamer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The stream's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The URL of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The stream's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In newer documents. Part of exports, but never shown by the api listener, as are the next three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Value>,
    /// The channel's id at YouTube.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<Value>,
    /// The channel's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_title: Option<Value>,
    /// The video's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Value>,
}

/// A stream: its eight text fields, of which those that the document lacks are omitted.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Holodule)]
pub struct Public<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datetime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

impl Holodule {
    /// The code of its streamer: `code`, or the beginning of `key` in documents without it.
    pub fn effective_code(&self) -> Option<&str> {
        effective_code(self.code.as_deref(), self.key.as_deref())
    }

    /// Its tags that are texts. A text in place of a list is one tag.
    pub fn tag_texts(&self) -> impl Iterator<Item = &str> {
        let tags = self.tags.as_ref().map_or([].as_slice(), |tags| match tags {
            Value::Array(tags) => tags,
            tag => std::slice::from_ref(tag),
        });
        tags.iter().filter_map(Value::as_str)
    }

    /// When it starts; `None` if `datetime` is not a valid time.
    pub fn starts_at(&self) -> Option<WallClock> {
        WallClock::parse(self.datetime.as_deref()?).ok()
    }

    /// The view for clients of the api listener.
    pub fn public(&self) -> Public<'_> {
        Public {
            key: self.key.as_deref(),
            code: self.code.as_deref(),
            video_id: self.video_id.as_deref(),
            datetime: self.datetime.as_deref(),
            name: self.name.as_deref(),
            title: self.title.as_deref(),
            url: self.url.as_deref(),
            description: self.description.as_deref(),
        }
    }
}

/// [`Holodule::effective_code`] of a holodule with this `code` and `key`.
pub fn effective_code<'a>(code: Option<&'a str>, key: Option<&'a str>) -> Option<&'a str> {
    match code {
        Some(code) if !code.is_empty() => Some(code),
        _ => key?.split_once('_').map(|(code, _)| code).filter(|code| Code::parse(code).is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_code_is_stored_or_begins_the_key() {
        let of = |code: Option<&str>, key: Option<&str>| {
            let holodule = Holodule { code: code.map(Into::into), key: key.map(Into::into), ..Holodule::default() };
            holodule.effective_code().map(str::to_owned)
        };
        let key = Some("HL0503_20201209_230000");
        assert_eq!(of(Some("HLEN01"), key).as_deref(), Some("HLEN01"));
        assert_eq!(of(Some(""), key).as_deref(), Some("HL0503"));
        assert_eq!(of(None, key).as_deref(), Some("HL0503"));
        for key in [None, Some(""), Some("HL0503"), Some("x_20201209_230000")] {
            assert_eq!(of(None, key), None, "{key:?}");
        }
    }

    #[test]
    fn clients_see_eight_ordered_fields_without_missing_ones() {
        let stored: Holodule = serde_json::from_value(json!({
            "description": "d", "url": "", "title": "t", "name": "n", "datetime": "20201209 230000", "video_id": "v",
            "code": "HL0503", "key": "k", "tags": ["a"], "published_at": "p", "channel_id": "c", "channel_title": "ct",
        }))
        .unwrap();
        let shown = r#"{"key":"k","code":"HL0503","video_id":"v","datetime":"20201209 230000","name":"n","title":"t","url":"","description":"d"}"#;
        assert_eq!(serde_json::to_string(&stored.public()).unwrap(), shown);
        let whole = r#","published_at":"p","channel_id":"c","channel_title":"ct","tags":["a"]}"#;
        assert_eq!(serde_json::to_string(&stored).unwrap(), format!("{}{whole}", shown.trim_end_matches('}')));

        let bare = Holodule { title: Some("t".into()), ..Holodule::default() };
        assert_eq!(serde_json::to_string(&bare.public()).unwrap(), r#"{"title":"t"}"#);
    }
}
