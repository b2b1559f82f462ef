//! A holodule as an event.

use aws_lc_rs::digest::{SHA256, digest};

use crate::hex;
use crate::model::{Holodule, Streamers, WallClock};

/// The longest summary, in characters.
const SUMMARY_LIMIT: usize = 200;
/// The longest description, in characters. Descriptions at YouTube have up to 5,000, mostly links; a thousand of them
/// would exceed what calendar services read.
const DESCRIPTION_LIMIT: usize = 500;
/// The maximum number of tags among the categories.
const TAGS: usize = 10;
/// The longest tag, in characters. Longer ones are left out.
const TAG_LIMIT: usize = 50;
/// The longest URL, in bytes. Longer ones are left out.
const URL_LIMIT: usize = 2048;
/// The longest key that is part of a UID as it is, in bytes.
const UID_KEY_LIMIT: usize = 64;
/// Bytes of a digest.
const DIGEST_BYTES: usize = 16;

/// An event of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The UID (RFC 5545, section 3.8.4.7): the same as long as the holodule has the same video, or, without a video,
    /// the same key.
    pub uid: String,
    /// The start.
    pub starts_at: WallClock,
    /// The streamer's name and the title, on one line.
    pub summary: String,
    /// The URL and the beginning of the description.
    pub description: String,
    /// The URL, if it is an https one.
    pub url: Option<String>,
    /// The group and some tags.
    pub categories: Vec<String>,
}

impl Event {
    /// The event of a holodule; `None` if its `datetime` is not a valid time.
    pub fn of(holodule: &Holodule, streamers: &Streamers) -> Option<Self> {
        let starts_at = holodule.starts_at()?;
        let streamer = streamers.of(holodule);
        let name = present(&holodule.name).or_else(|| streamer.and_then(|streamer| present(&streamer.name)));
        let parts: Vec<&str> = [name, present(&holodule.title)].into_iter().flatten().collect();
        let summary =
            if parts.is_empty() { holodule.effective_code().unwrap_or("-").to_owned() } else { parts.join(": ") };
        let url = present(&holodule.url).filter(|url| is_https(url)).map(str::to_owned);
        let description = present(&holodule.description).map(|description| shortened(description, DESCRIPTION_LIMIT));
        let description = [url.clone(), description].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
        let group = streamer.and_then(|streamer| present(&streamer.group));
        let tags = holodule.tag_texts().filter(|tag| !tag.is_empty() && tag.chars().count() <= TAG_LIMIT).take(TAGS);
        Some(Self {
            uid: uid(holodule, starts_at),
            starts_at,
            summary: shortened(&summary.split_whitespace().collect::<Vec<_>>().join(" "), SUMMARY_LIMIT),
            description,
            url,
            categories: group.into_iter().chain(tags).map(str::to_owned).collect(),
        })
    }

    /// A digest of everything that is delivered, with the assumed `duration` in seconds.
    pub(super) fn digest(&self, duration: i64) -> String {
        let Self { uid: _, starts_at, summary, description, url, categories } = self;
        let content = (starts_at.unix(), duration, summary, description, url, categories);
        // Numbers and texts can always be serialized.
        let digest = digest(&SHA256, &serde_json::to_vec(&content).unwrap_or_default());
        hex::encode(digest.as_ref().get(..DIGEST_BYTES).unwrap_or_default())
    }
}

fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.trim().is_empty())
}

/// The part after the at sign is in a reserved domain (RFC 2606), so that no other program creates the same UID.
fn uid(holodule: &Holodule, starts_at: WallClock) -> String {
    let plain = |id: &&str| {
        id.len() <= UID_KEY_LIMIT && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let hashed = |text: &str| {
        let digest = digest(&SHA256, text.as_bytes());
        hex::encode(digest.as_ref().get(..DIGEST_BYTES).unwrap_or_default())
    };
    let named = |id: &str, kind: &str| match Some(id).filter(plain) {
        Some(id) => format!("{id}@{kind}.holodule.invalid"),
        None => format!("{}@hash.{kind}.holodule.invalid", hashed(id)),
    };
    match (present(&holodule.video_id), present(&holodule.key)) {
        (Some(video), _) => named(video, "video"),
        (None, Some(key)) => named(key, "key"),
        // The original stores such documents. A change makes it another event.
        (None, None) => {
            let [name, title] = [&holodule.name, &holodule.title].map(|text| text.as_deref().unwrap_or_default());
            named(&format!("{starts_at}\0{name}\0{title}"), "document")
        }
    }
}

/// Whether it is an absolute https URL of characters that RFC 3986 allows.
fn is_https(url: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    url.len() <= URL_LIMIT && host.is_some_and(|host| !host.is_empty()) && url.bytes().all(legal)
}

/// The first `limit` characters, the last of which is an ellipsis if there are more.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Streamer;

    fn event(holodule: serde_json::Value) -> Option<Event> {
        let streamer = Streamer { code: "HL0501".into(), group: Some("hololive".into()), ..Streamer::default() };
        Event::of(&serde_json::from_value(holodule).unwrap(), &[streamer].into_iter().collect())
    }

    #[test]
    fn a_holodule_is_an_event() {
        let event = event(json!({
            "key": "HL0501_20201209_230000", "video_id": "dQw4w9WgXc_", "datetime": "20201209 230000", "name": "獅白ぼたん",
            "title": "APEX\nランク", "url": "https://www.youtube.com/watch?v=dQw4w9WgXc_", "description": "a\nb",
            "tags": ["apex", 1, "", "x".repeat(51)],
        }));
        let event = event.unwrap();
        assert_eq!(event.uid, "dQw4w9WgXc_@video.holodule.invalid");
        assert_eq!(event.summary, "獅白ぼたん: APEX ランク");
        assert_eq!(event.description, "https://www.youtube.com/watch?v=dQw4w9WgXc_\n\na\nb");
        assert_eq!(event.url.as_deref(), Some("https://www.youtube.com/watch?v=dQw4w9WgXc_"));
        assert_eq!(event.categories, ["hololive", "apex"]);
    }

    #[test]
    fn without_a_time_there_is_no_event() {
        for datetime in ["", "20201209", "20201209 250000", "soon"] {
            assert_eq!(event(json!({ "video_id": "dQw4w9WgXc_", "datetime": datetime })), None, "{datetime}");
        }
        assert_eq!(event(json!({ "video_id": "dQw4w9WgXc_" })), None);
    }

    #[test]
    fn missing_texts_have_substitutes() {
        let bare = event(json!({ "key": "HL0501_20201209_230000", "datetime": "20201209 230000" })).unwrap();
        assert_eq!((bare.summary.as_str(), bare.description.as_str(), bare.url), ("HL0501", "", None));
        assert_eq!(bare.uid, "HL0501_20201209_230000@key.holodule.invalid");
        let nothing = event(json!({ "datetime": "20201209 230000" })).unwrap();
        assert_eq!((nothing.summary.as_str(), nothing.categories), ("-", vec![]));
        assert!(nothing.uid.ends_with("@hash.document.holodule.invalid"), "{}", nothing.uid);
    }

    #[test]
    fn a_uid_has_no_special_characters_and_a_bounded_length() {
        let of = |key: &str| event(json!({ "key": key, "datetime": "20201209 230000" })).unwrap().uid;
        for key in ["夜 odd", "a,b;c\r\n", &"k".repeat(1000)] {
            let uid = of(key);
            assert!(uid.len() < 80 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b"@.".contains(&b)), "{uid}");
            assert_eq!(uid, of(key));
        }
        assert_ne!(of("夜 odd"), of("夜 odder"));
    }

    #[test]
    fn only_https_urls_are_written() {
        for good in ["https://www.youtube.com/watch?v=a", "https://a?b", "https://a"] {
            assert!(is_https(good), "{good}");
        }
        let long = format!("https://a/{}", "a".repeat(URL_LIMIT));
        for bad in
            ["http://a/", "javascript:alert(1)", "https://", "https:///a", "https://a/\r\nX:y", "https://a/é", &long]
        {
            assert!(!is_https(bad), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_of_all_that_is_delivered() {
        let base = json!({ "video_id": "dQw4w9WgXc_", "datetime": "20201209 230000", "name": "n", "title": "t" });
        let digest = |holodule: &serde_json::Value| event(holodule.clone()).unwrap().digest(7200);
        assert_eq!(digest(&base), digest(&base));
        for (name, value) in [
            ("datetime", json!("20201209 230001")),
            ("name", json!("m")),
            ("title", json!("u")),
            ("url", json!("https://a")),
            ("description", json!("d")),
            ("tags", json!(["a"])),
        ] {
            let mut changed = base.clone();
            changed[name] = value;
            assert_ne!(digest(&changed), digest(&base), "{name}");
        }
        assert_ne!(event(base.clone()).unwrap().digest(3600), digest(&base));
        let mut same = base.clone();
        same["published_at"] = json!("2020-12-09");
        assert_eq!(digest(&same), digest(&base), "it is not delivered");
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("あいう", 3), "あいう");
        assert_eq!(shortened("あいうえ", 3), "あい…");
    }
}
