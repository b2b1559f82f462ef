//! A holodule that may be stored, and what it is found by.

use std::fmt;

use serde_json::Value;

use super::day::WallClock;
use super::holodule::Holodule;

/// The longest `name`, in bytes of UTF-8.
pub const NAME_LIMIT: usize = 512;
/// The longest `title`, in bytes of UTF-8 (YouTube allows 100 characters).
pub const TITLE_LIMIT: usize = 1024;
/// The longest `url`, in bytes.
pub const URL_LIMIT: usize = 2048;
/// The longest `description`, in bytes of UTF-8 (YouTube allows 5,000 characters).
pub const DESCRIPTION_LIMIT: usize = 32 * 1024;
/// The longest `published_at`, `channel_id`, `channel_title` or `tags`, in bytes of compact JSON.
pub const FURTHER_LIMIT: usize = 16 * 1024;
/// What `published_at`, `channel_id`, `channel_title` and `tags` may hold together, as counted by
/// [`Entry::weight`]. YouTube's tags, 500 characters in all, are at most some 250.
pub const WEIGHT_LIMIT: usize = 2048;
/// What an object counts for: its members lie in nodes of a tree, of some 650 bytes each, where
/// any other value takes 32 and its text.
const OBJECT_WEIGHT: usize = 10;
/// The longest key that can be asked for, in bytes. Stored ones of older eras may have any shape.
pub const KEY_LIMIT: usize = 128;

/// Why a holodule may not be stored. Fit to be shown: it names the field and the
/// rule, and never repeats the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field that is wrong.
    pub field: &'static str,
    /// The rule that it breaks.
    pub reason: String,
}

impl Invalid {
    fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// The id of a video at YouTube: 11 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId(String);

impl VideoId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`Invalid`] for any other length or character.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.len() == 11 && text.bytes().all(alphabet) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("video_id", "must be empty or 11 characters of A-Z, a-z, 0-9, _ and -"))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A streamer's code: `HL`, a generation (`00` to `09`, `0G`, `DI`, `ID` or `EN`) and two digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Code(String);

impl Code {
    /// Reads a code.
    ///
    /// # Errors
    /// [`Invalid`] for any other shape.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let [b'H', b'L', generation @ .., d1, d2] = text.as_bytes() else { return Err(Self::refused()) };
        let known = matches!(generation, [b'0', b'0'..=b'9' | b'G'] | b"DI" | b"ID" | b"EN");
        if known && d1.is_ascii_digit() && d2.is_ascii_digit() {
            return Ok(Self(text.to_owned()));
        }
        Err(Self::refused())
    }

    fn refused() -> Invalid {
        Invalid::new("code", "must be a streamer's code, such as HL0503")
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a holodule is found by: its video, or its key where it has no video.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// By `video_id`.
    VideoId(VideoId),
    /// By `key`. Not always of the shape that new keys have: older ones can be found too.
    Key(String),
}

impl Identifier {
    /// Reads a decoded path segment: what has the shape of a video's id is one, and
    /// anything else is a key.
    ///
    /// # Errors
    /// [`Invalid`] where it is empty, longer than [`KEY_LIMIT`] or has a control character.
    pub fn parse(segment: &str) -> Result<Self, Invalid> {
        if let Ok(id) = VideoId::parse(segment) {
            return Ok(Self::VideoId(id));
        }
        if segment.is_empty() {
            return Err(Invalid::new("key", "must not be empty"));
        }
        text("key", Some(segment), KEY_LIMIT, Lines::One)?;
        Ok(Self::Key(segment.to_owned()))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VideoId(id) => id.fmt(f),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// A holodule that may be stored.
///
/// `key` and `video_id` are always there, one of them perhaps empty: an empty field
/// and a missing one are the same. Every other text may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    holodule: Holodule,
    identifier: Identifier,
    weight: usize,
}

impl Entry {
    /// Checks `holodule`.
    ///
    /// `key` is `<code>_<yyyymmdd>_<hhmmss>` (digits, not necessarily those of
    /// `datetime`) or empty; `video_id` a [`VideoId`] or empty; not both are empty.
    /// `datetime` is a [`WallClock`] in its stored form, and the one text that must be
    /// there. `code`, where present, is a [`Code`]. `url` is empty, or `http://` or
    /// `https://` and a host, without spaces. The lengths are bounded by the constants
    /// of this module. Control characters (Unicode `Cc`) are refused, but line feeds,
    /// carriage returns and tabs are legal in `title` and `description`.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the fields.
    pub fn new(mut holodule: Holodule) -> Result<Self, Invalid> {
        let key = holodule.key.get_or_insert_default();
        check_key(key)?;
        if let Some(code) = &holodule.code {
            Code::parse(code)?;
        }
        let video_id = holodule.video_id.get_or_insert_default();
        let identifier = match (video_id.as_str(), key.as_str()) {
            ("", "") => return Err(Invalid::new("video_id", "must not be empty where the key is empty too")),
            ("", key) => Identifier::Key(key.to_owned()),
            (video_id, _) => Identifier::VideoId(VideoId::parse(video_id)?),
        };
        let Some(datetime) = &holodule.datetime else { return Err(Invalid::new("datetime", "is missing")) };
        if WallClock::parse(datetime).is_err() {
            return Err(Invalid::new("datetime", "must be a day of the calendar and a time of the day"));
        }
        text("name", holodule.name.as_deref(), NAME_LIMIT, Lines::One)?;
        text("title", holodule.title.as_deref(), TITLE_LIMIT, Lines::Many)?;
        check_url(holodule.url.as_deref().unwrap_or_default())?;
        text("description", holodule.description.as_deref(), DESCRIPTION_LIMIT, Lines::Many)?;
        further("published_at", holodule.published_at.as_ref())?;
        further("channel_id", holodule.channel_id.as_ref())?;
        further("channel_title", holodule.channel_title.as_ref())?;
        further("tags", holodule.tags.as_ref())?;
        let further = [&holodule.published_at, &holodule.channel_id, &holodule.channel_title, &holodule.tags];
        let weight = further.into_iter().flatten().map(weight).sum();
        if weight > WEIGHT_LIMIT {
            return Err(Invalid::new("tags", "and its like must not hold so many values of JSON"));
        }
        Ok(Self { holodule, identifier, weight })
    }

    /// How much memory the values of JSON take that the row keeps for exports: one for each, ten
    /// for an object. At most [`WEIGHT_LIMIT`].
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What it is found by.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// What it holds.
    pub fn holodule(&self) -> &Holodule {
        &self.holodule
    }

    /// What it holds, given away.
    pub fn into_holodule(self) -> Holodule {
        self.holodule
    }
}

fn check_key(key: &str) -> Result<(), Invalid> {
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = key.split('_');
    let shaped = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), None, ..) => true,
        (Some(code), Some(day), Some(time), None) => Code::parse(code).is_ok() && digits(day, 8) && digits(time, 6),
        _ => false,
    };
    if shaped { Ok(()) } else { Err(Invalid::new("key", "must be empty or <code>_<yyyymmdd>_<hhmmss>")) }
}

fn check_url(url: &str) -> Result<(), Invalid> {
    text("url", Some(url), URL_LIMIT, Lines::One)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    if url.is_empty() || (host && !url.contains(char::is_whitespace)) {
        return Ok(());
    }
    Err(Invalid::new("url", "must be empty or begin with http:// or https:// and a host, without spaces"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    Many,
}

fn text(field: &'static str, text: Option<&str>, limit: usize, lines: Lines) -> Result<(), Invalid> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > limit {
        return Err(Invalid::new(field, format!("must not be longer than {limit} bytes")));
    }
    let legal = |c: char| !c.is_control() || (lines == Lines::Many && matches!(c, '\n' | '\r' | '\t'));
    if text.chars().all(legal) { Ok(()) } else { Err(Invalid::new(field, "must not contain control characters")) }
}

fn further(field: &'static str, value: Option<&Value>) -> Result<(), Invalid> {
    let Some(value) = value else { return Ok(()) };
    let length = value.to_string().len();
    if length > FURTHER_LIMIT {
        return Err(Invalid::new(field, format!("must not be longer than {FURTHER_LIMIT} bytes of JSON")));
    }
    // MongoDB ends a name at such a character.
    if has_nul_name(value) {
        return Err(Invalid::new(field, "must not have a name with the character U+0000"));
    }
    Ok(())
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Object(members) => OBJECT_WEIGHT + members.values().map(weight).sum::<usize>(),
        Value::Array(values) => 1 + values.iter().map(weight).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn has_nul_name(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul_name(value)),
        Value::Array(values) => values.iter().any(has_nul_name),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Holodule {
        Holodule {
            key: Some("HL0503_20201209_230000".into()),
            video_id: Some("dQw4w9WgXc_".into()),
            datetime: Some("20201209 230000".into()),
            ..Holodule::default()
        }
    }

    fn field_of(holodule: Holodule) -> &'static str {
        Entry::new(holodule).unwrap_err().field
    }

    #[test]
    fn the_values_of_json_are_bounded_together() {
        let entry = Entry::new(Holodule { tags: Some(json!(["a", {"b": [1]}])), ..good() }).unwrap();
        assert_eq!(entry.weight(), 1 + 1 + 10 + 1 + 1);
        assert_eq!(Entry::new(good()).unwrap().weight(), 0);
        let many = |count: usize| Some(json!(vec![0; count]));
        let half = WEIGHT_LIMIT / 2;
        let full = Holodule { tags: many(half - 1), channel_id: many(half - 1), ..good() };
        assert_eq!(Entry::new(full.clone()).unwrap().weight(), WEIGHT_LIMIT);
        assert_eq!(field_of(Holodule { channel_title: Some(json!("one more")), ..full }), "tags");
        assert_eq!(
            field_of(Holodule { published_at: Some(json!(vec![json!({}); WEIGHT_LIMIT / 10 + 1])), ..good() }),
            "tags"
        );
    }

    #[test]
    fn one_of_key_and_video_id_is_needed() {
        let by_video = Entry::new(Holodule { key: None, ..good() }).unwrap();
        assert_eq!(by_video.identifier().to_string(), "dQw4w9WgXc_");
        assert_eq!(by_video.holodule().key.as_deref(), Some(""));
        let by_key = Entry::new(Holodule { video_id: Some(String::new()), ..good() }).unwrap();
        assert_eq!(*by_key.identifier(), Identifier::Key("HL0503_20201209_230000".into()));
        assert_eq!(field_of(Holodule { key: None, video_id: None, ..good() }), "video_id");
    }

    #[test]
    fn each_field_has_its_rule() {
        let some = |text: &str| Some(text.to_owned());
        for key in
            ["HL0503_20201209_23000", "HL0503_20201209", "XX0503_20201209_230000", "HL0503_20201209_230000_", "_"]
        {
            assert_eq!(field_of(Holodule { key: some(key), ..good() }), "key", "{key}");
        }
        for id in ["short", "dQw4w9WgXcQQ", "dQw4w9WgXc.", "dQw4w9WgXcあ"] {
            assert_eq!(field_of(Holodule { video_id: some(id), ..good() }), "video_id", "{id}");
        }
        for datetime in [None, some(""), some("2020-12-09 23:00:00"), some("20201209 250000")] {
            assert_eq!(field_of(Holodule { datetime, ..good() }), "datetime");
        }
        for url in [
            "javascript:alert(1)",
            "http://",
            "https:///x",
            "https://a b",
            "ftp://x",
            "//x",
            " https://x",
            "https://x\n",
        ] {
            assert_eq!(field_of(Holodule { url: some(url), ..good() }), "url", "{url}");
        }
        for url in ["", "http://x", "https://www.youtube.com/watch?v=dQw4w9WgXcQ"] {
            Entry::new(Holodule { url: some(url), ..good() }).unwrap();
        }
        assert_eq!(field_of(Holodule { code: some("HL0X00"), ..good() }), "code");
    }

    #[test]
    fn lengths_and_control_characters_are_bounded() {
        let long = |limit: usize| Some("x".repeat(limit + 1));
        assert_eq!(field_of(Holodule { name: long(NAME_LIMIT), ..good() }), "name");
        assert_eq!(field_of(Holodule { title: long(TITLE_LIMIT), ..good() }), "title");
        assert_eq!(field_of(Holodule { description: long(DESCRIPTION_LIMIT), ..good() }), "description");
        assert_eq!(field_of(Holodule { url: Some(format!("https://{}", "x".repeat(URL_LIMIT))), ..good() }), "url");
        assert_eq!(field_of(Holodule { tags: Some(json!(["x".repeat(FURTHER_LIMIT)])), ..good() }), "tags");
        assert_eq!(field_of(Holodule { tags: Some(json!([{ "a": { "b\0": 1 } }])), ..good() }), "tags");
        for c in ['\0', '\u{1b}', '\u{7f}', '\u{9b}'] {
            assert_eq!(field_of(Holodule { title: Some(c.into()), ..good() }), "title");
            assert_eq!(field_of(Holodule { description: Some(c.into()), ..good() }), "description");
        }
        assert_eq!(field_of(Holodule { name: Some("a\nb".into()), ..good() }), "name");
        let lines = Some("a\r\n\tb\n".to_owned());
        Entry::new(Holodule { title: lines.clone(), description: lines, ..good() }).unwrap();
    }

    #[test]
    fn codes_are_those_of_the_streamers() {
        for good in ["HL0503", "HL0G02", "HLDI01", "HLID03", "HLEN99", "HL0000"] {
            assert_eq!(Code::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "HL", "HL05", "HL050", "HL05033", "HL1503", "HL0g02", "hl0503", "HLII01", "HL05é3", "XHL0503"]
        {
            assert!(Code::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_segment_is_a_video_or_a_key() {
        assert!(matches!(Identifier::parse("dQw4w9WgXc_").unwrap(), Identifier::VideoId(_)));
        assert!(matches!(Identifier::parse("HL0503_20201209_230000").unwrap(), Identifier::Key(_)));
        assert!(matches!(Identifier::parse("夜 odd").unwrap(), Identifier::Key(_)));
        for bad in ["", "a\nb", &"k".repeat(KEY_LIMIT + 1)] {
            assert_eq!(Identifier::parse(bad).unwrap_err().field, "key");
        }
    }
}
