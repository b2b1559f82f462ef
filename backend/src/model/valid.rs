//! A validated holodule.

use serde_json::Value;

use super::day::WallClock;
use super::holodule::Holodule;
use super::identifier::{Code, Identifier, Invalid, LineBreaks, VideoId, text};

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
/// The maximum total weight of `published_at`, `channel_id`, `channel_title` and `tags`, see [`ValidHolodule::weight`].
/// YouTube's tags, 500 characters in all, have at most about 250.
pub const WEIGHT_LIMIT: usize = 2048;
/// The weight of an object. Its members are in tree nodes of about 650 bytes each; any other value takes 32 bytes and
/// its text.
const OBJECT_WEIGHT: usize = 10;
/// A holodule that can be stored.
///
/// `key` and `video_id` are always present, one of them possibly empty; an empty value is the same as a missing one.
/// All other texts are optional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidHolodule {
    holodule: Holodule,
    identifier: Identifier,
    weight: usize,
    /// Whether an update removes the stored `code`.
    removes_code: bool,
}

impl ValidHolodule {
    /// Validates `holodule`.
    ///
    /// `key` is `<code>_<yyyymmdd>_<hhmmss>` (any digits, not necessarily those of `datetime`) or empty; `video_id` is
    /// a [`VideoId`] or empty; one of the two is not empty. `datetime` is required and a [`WallClock`] in its stored
    /// form. `code`, if present and not empty, is a [`Code`]. `url` is empty, or `http://` or `https://` and a host,
    /// without spaces. Lengths are bounded by the constants of this module. Control characters (Unicode `Cc`) are
    /// invalid, except line feeds, carriage returns and tabs in `title` and `description`.
    ///
    /// # Errors
    /// The first violated rule, in the order of the fields.
    pub fn new(mut holodule: Holodule) -> Result<Self, Invalid> {
        let key = holodule.key.get_or_insert_default();
        check_key(key)?;
        let removes_code = holodule.code.take_if(|code| code.is_empty()).is_some();
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
        text("name", holodule.name.as_deref(), NAME_LIMIT, LineBreaks::Forbidden)?;
        text("title", holodule.title.as_deref(), TITLE_LIMIT, LineBreaks::Allowed)?;
        check_url(holodule.url.as_deref().unwrap_or_default())?;
        text("description", holodule.description.as_deref(), DESCRIPTION_LIMIT, LineBreaks::Allowed)?;
        further("published_at", holodule.published_at.as_ref())?;
        further("channel_id", holodule.channel_id.as_ref())?;
        further("channel_title", holodule.channel_title.as_ref())?;
        further("tags", holodule.tags.as_ref())?;
        let further = [&holodule.published_at, &holodule.channel_id, &holodule.channel_title, &holodule.tags];
        let weight = further.into_iter().flatten().map(weight).sum();
        if weight > WEIGHT_LIMIT {
            return Err(Invalid::new("tags", "and similar fields have too many JSON values"));
        }
        Ok(Self { holodule, identifier, weight, removes_code })
    }

    /// The memory taken by the JSON values that are stored for exports: one for each value, ten for an object. At most
    /// [`WEIGHT_LIMIT`].
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The identifier.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The content.
    pub fn holodule(&self) -> &Holodule {
        &self.holodule
    }

    /// Returns the content.
    pub fn into_holodule(self) -> Holodule {
        self.holodule
    }

    /// The stored holodule after an update: each field of this one replaces the stored one, and missing fields are
    /// unchanged.
    ///
    /// There are three exceptions. An empty `key` or `video_id` never replaces another, an empty `code` removes the
    /// stored one, and an empty text is ignored if the stored document lacks the field. So importing an export changes
    /// nothing, although CSV does not distinguish empty from missing.
    #[must_use]
    pub fn merged_into(&self, stored: &Holodule) -> Holodule {
        fn text(stored: &Option<String>, new: &Option<String>) -> Option<String> {
            match (stored, new) {
                (None, Some(new)) if new.is_empty() => None,
                (_, Some(new)) => Some(new.clone()),
                (stored, None) => stored.clone(),
            }
        }
        fn identity(stored: &Option<String>, new: &Option<String>) -> Option<String> {
            let new = new.as_ref().filter(|new| !new.is_empty());
            new.or(stored.as_ref()).cloned()
        }
        let new = &self.holodule;
        Holodule {
            key: identity(&stored.key, &new.key),
            code: if self.removes_code {
                stored.code.clone().filter(String::is_empty)
            } else {
                text(&stored.code, &new.code)
            },
            video_id: identity(&stored.video_id, &new.video_id),
            datetime: text(&stored.datetime, &new.datetime),
            name: text(&stored.name, &new.name),
            title: text(&stored.title, &new.title),
            url: text(&stored.url, &new.url),
            description: text(&stored.description, &new.description),
            published_at: new.published_at.as_ref().or(stored.published_at.as_ref()).cloned(),
            channel_id: new.channel_id.as_ref().or(stored.channel_id.as_ref()).cloned(),
            channel_title: new.channel_title.as_ref().or(stored.channel_title.as_ref()).cloned(),
            tags: new.tags.as_ref().or(stored.tags.as_ref()).cloned(),
        }
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
    text("url", Some(url), URL_LIMIT, LineBreaks::Forbidden)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    if url.is_empty() || (host && !url.contains(char::is_whitespace)) {
        return Ok(());
    }
    Err(Invalid::new("url", "must be empty or begin with http:// or https:// and a host, without spaces"))
}

fn further(field: &'static str, value: Option<&Value>) -> Result<(), Invalid> {
    let Some(value) = value else { return Ok(()) };
    let length = value.to_string().len();
    if length > FURTHER_LIMIT {
        return Err(Invalid::new(field, format!("must not be longer than {FURTHER_LIMIT} bytes of JSON")));
    }
    // MongoDB would truncate the name there.
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
        ValidHolodule::new(holodule).unwrap_err().field
    }

    #[test]
    fn the_total_of_json_values_is_bounded() {
        let entry = ValidHolodule::new(Holodule { tags: Some(json!(["a", {"b": [1]}])), ..good() }).unwrap();
        assert_eq!(entry.weight(), 1 + 1 + 10 + 1 + 1);
        assert_eq!(ValidHolodule::new(good()).unwrap().weight(), 0);
        let many = |count: usize| Some(json!(vec![0; count]));
        let half = WEIGHT_LIMIT / 2;
        let full = Holodule { tags: many(half - 1), channel_id: many(half - 1), ..good() };
        assert_eq!(ValidHolodule::new(full.clone()).unwrap().weight(), WEIGHT_LIMIT);
        assert_eq!(field_of(Holodule { channel_title: Some(json!("one more")), ..full }), "tags");
        assert_eq!(
            field_of(Holodule { published_at: Some(json!(vec![json!({}); WEIGHT_LIMIT / 10 + 1])), ..good() }),
            "tags"
        );
    }

    #[test]
    fn one_of_key_and_video_id_is_needed() {
        let by_video = ValidHolodule::new(Holodule { key: None, ..good() }).unwrap();
        assert_eq!(by_video.identifier().to_string(), "dQw4w9WgXc_");
        assert_eq!(by_video.holodule().key.as_deref(), Some(""));
        let by_key = ValidHolodule::new(Holodule { video_id: Some(String::new()), ..good() }).unwrap();
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
            ValidHolodule::new(Holodule { url: some(url), ..good() }).unwrap();
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
        ValidHolodule::new(Holodule { title: lines.clone(), description: lines, ..good() }).unwrap();
    }

    #[test]
    fn an_empty_code_removes_the_stored_one() {
        let code = |code: Option<&str>| Holodule { code: code.map(str::to_owned), ..good() };
        let merged = |new, stored| ValidHolodule::new(code(new)).unwrap().merged_into(&code(stored)).code;
        assert_eq!(merged(Some(""), Some("HL0503")), None);
        assert_eq!(merged(None, Some("HL0503")).as_deref(), Some("HL0503"));
        assert_eq!(merged(Some("HL0504"), Some("HL0503")).as_deref(), Some("HL0504"));
        assert_eq!(merged(Some(""), None), None);
        assert_eq!(merged(Some(""), Some("")).as_deref(), Some(""), "an export of older data changes nothing");
        assert_eq!(ValidHolodule::new(code(Some(""))).unwrap().holodule().code, None, "a new one has none");
    }

    #[test]
    fn an_update_replaces_supplied_fields_only() {
        let stored = Holodule {
            key: Some("HL0503_20201209_230000".into()),
            video_id: Some("aaaaaaaaaaa".into()),
            datetime: Some("20201209 230000".into()),
            title: Some("old".into()),
            tags: Some(json!(["kept"])),
            ..Holodule::default()
        };
        let entry = ValidHolodule::new(Holodule {
            video_id: Some("aaaaaaaaaaa".into()),
            datetime: Some("20201210 000000".into()),
            title: Some(String::new()),
            description: Some(String::new()),
            ..Holodule::default()
        })
        .unwrap();
        let updated = entry.merged_into(&stored);
        assert_eq!(updated.key, stored.key, "an empty key is ignored");
        assert_eq!(updated.datetime.as_deref(), Some("20201210 000000"));
        assert_eq!(updated.title.as_deref(), Some(""), "a text can be emptied");
        assert_eq!(updated.description, None, "an empty text is ignored if the field was missing");
        assert_eq!(updated.tags, stored.tags);
        assert_eq!(entry.merged_into(&updated), updated);
    }
}
