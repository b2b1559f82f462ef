//! Identifiers of holodules, and the checks shared by all text fields.

use std::fmt;

/// The longest key that can be requested, in bytes. Keys of older documents may have any form.
pub const KEY_LIMIT: usize = 128;

/// Why a holodule is invalid. Safe to show: it has the field and the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The invalid field.
    pub field: &'static str,
    /// The violated rule.
    pub reason: String,
}

impl Invalid {
    pub(super) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A YouTube video id: 11 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId(String);

impl VideoId {
    /// Parses an id.
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
    /// Parses a code.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let [b'H', b'L', generation @ .., d1, d2] = text.as_bytes() else { return Err(Self::invalid()) };
        let known = matches!(generation, [b'0', b'0'..=b'9' | b'G'] | b"DI" | b"ID" | b"EN");
        if known && d1.is_ascii_digit() && d2.is_ascii_digit() {
            return Ok(Self(text.to_owned()));
        }
        Err(Self::invalid())
    }

    fn invalid() -> Invalid {
        Invalid::new("code", "must be a streamer's code, such as HL0503")
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identifies a holodule: by its video, or by its key if it has no video.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// By `video_id`.
    VideoId(VideoId),
    /// By `key`, which in older documents may have another form than in new ones.
    Key(String),
}

impl Identifier {
    /// Parses a decoded path segment: a valid video id, or otherwise a key.
    ///
    /// # Errors
    /// [`Invalid`] if it is empty, longer than [`KEY_LIMIT`] or contains a control character.
    pub fn parse(segment: &str) -> Result<Self, Invalid> {
        if let Ok(id) = VideoId::parse(segment) {
            return Ok(Self::VideoId(id));
        }
        if segment.is_empty() {
            return Err(Invalid::new("key", "must not be empty"));
        }
        text("key", Some(segment), KEY_LIMIT, LineBreaks::Forbidden)?;
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LineBreaks {
    Forbidden,
    Allowed,
}

pub(super) fn text(field: &'static str, text: Option<&str>, limit: usize, lines: LineBreaks) -> Result<(), Invalid> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > limit {
        return Err(Invalid::new(field, format!("must not be longer than {limit} bytes")));
    }
    let legal = |c: char| !c.is_control() || (lines == LineBreaks::Allowed && matches!(c, '\n' | '\r' | '\t'));
    if text.chars().all(legal) { Ok(()) } else { Err(Invalid::new(field, "must not contain control characters")) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
