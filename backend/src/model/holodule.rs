//! A holodule, as a stored document shows it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a stored document shows. A field that is missing in the document is `None`,
/// and stays missing wherever the holodule is written; the texts of older eras are
/// shown as they are, whatever their shape.
///
/// The serialised form is the whole record, in the order of the documents: what an
/// export writes. What clients of the api see is [`Holodule::public`].
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
    /// `yyyymmdd hhmmss`, Japan's wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime: Option<String>,
    /// The streamer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The stream's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it can be watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The stream's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Newer documents only, kept for exports; never shown by the api. So too the next three.
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

/// What clients see of a [`Holodule`]: its eight text fields in the contract's order.
#[derive(Clone, Copy, Debug, Serialize)]
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
    /// The view for clients of the api.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clients_see_eight_fields_in_order_and_no_missing_one() {
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
