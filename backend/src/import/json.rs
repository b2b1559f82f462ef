//! Rows as JSON objects: one per line, or in one array.

use std::io::{self, BufRead};
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::envelope::{self, Counted, Envelope, Scan, next_byte};
use super::lines;
use super::{ImportError, ROW_LIMIT, Raw, Row, datetime};
use crate::model::{Holodule, ValidHolodule};

/// The fields of a row that are texts.
const TEXTS: [&str; 8] = ["key", "code", "video_id", "datetime", "name", "title", "url", "description"];
/// The others, of any type.
const OTHERS: [&str; 5] = ["published_at", "channel_id", "channel_title", "tags", "_id"];
/// The longest name of an unknown field in a reason, in characters.
const SHOWN_NAME: usize = 100;

/// The fields of a row. Unknown fields are rejected rather than lost.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    key: Option<String>,
    code: Option<String>,
    video_id: Option<String>,
    datetime: Option<String>,
    name: Option<String>,
    title: Option<String>,
    url: Option<String>,
    description: Option<String>,
    published_at: Option<Value>,
    channel_id: Option<Value>,
    channel_title: Option<Value>,
    tags: Option<Value>,
    /// Part of MongoDB's exports, and ignored: a holodule is identified by its video or key.
    #[serde(rename = "_id")]
    _id: Option<IgnoredAny>,
}

/// Parses a holodule from a JSON object. `datetime` may have any accepted form; null is a missing field.
///
/// # Errors
/// The reason, safe to show: not a JSON object, not UTF-8, a duplicate, unknown or mistyped field, or an error of
/// [`ValidHolodule::new`].
pub fn parse_object(json: &[u8]) -> Result<ValidHolodule, String> {
    // For serde, an array with the values of a struct's fields is that struct.
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err("is not a JSON object".to_owned());
    }
    let fields: Fields = serde_json::from_slice(json).map_err(|error| reason(json, &error))?;
    let Fields { key, code, video_id, datetime, name, title, url, description, .. } = fields;
    let Fields { published_at, channel_id, channel_title, tags, .. } = fields;
    let datetime = datetime.map(datetime::stored);
    let holodule = Holodule {
        key,
        code,
        video_id,
        datetime,
        name,
        title,
        url,
        description,
        published_at,
        channel_id,
        channel_title,
        tags,
    };
    ValidHolodule::new(holodule).map_err(|invalid| invalid.to_string())
}

/// Why an object is not a row, in the words of JSON.
fn reason(json: &[u8], error: &serde_json::Error) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(json) else {
        let (line, column) = (error.line(), error.column());
        return format!("is not JSON: there is an error in line {line}, column {column}");
    };
    let Value::Object(members) = value else { return "is not a JSON object".to_owned() };
    for (name, value) in &members {
        if TEXTS.contains(&name.as_str()) {
            if !value.is_string() && !value.is_null() {
                return format!("{name}: must be a string");
            }
        } else if !OTHERS.contains(&name.as_str()) {
            let name: String = name.chars().take(SHOWN_NAME).collect();
            return format!("has the unknown field {name:?}");
        }
    }
    "has a field twice".to_owned()
}

fn row(number: u64, bytes: &[u8], cut: bool, span: Range<usize>) -> Row {
    let entry = if cut { Err(format!("is longer than {ROW_LIMIT} bytes")) } else { parse_object(bytes) };
    Row { number, raw: Raw::Bytes(lines::trimmed(bytes).to_vec()), span, entry }
}

/// Iterates over the rows of an NDJSON file. Blank lines are counted, but are not rows.
pub(super) struct JsonLines<R> {
    reader: R,
    end: u8,
    number: u64,
    read: usize,
}

impl<R: BufRead> JsonLines<R> {
    pub(super) fn new(reader: R, end: u8) -> Self {
        Self { reader, end, number: 0, read: 0 }
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match lines::next(&mut self.reader, self.end) {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            self.number += 1;
            let start = self.read;
            self.read += line.length;
            let mut bytes = line.bytes.as_slice();
            if self.number == 1 {
                bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
            }
            if !bytes.trim_ascii().is_empty() {
                return Some(Ok(row(self.number, bytes, line.cut, start..self.read)));
            }
        }
    }
}

/// Iterates over the elements of a JSON array, split by brackets and commas so that an invalid element does not affect
/// others.
pub(super) struct JsonElements<R> {
    reader: Counted<R>,
    envelope: Envelope,
    number: u64,
    done: bool,
}

impl<R: BufRead> JsonElements<R> {
    /// Reads up to the array: at the top level, or the member `holodules` of an object.
    pub(super) fn new(reader: R) -> Result<Self, ImportError> {
        let mut reader = Counted { reader, read: 0 };
        let envelope = envelope::enter(&mut reader)?;
        Ok(Self { reader, envelope, number: 0, done: false })
    }

    /// The bytes of the next element, and whether some were discarded. `end` is `None` if the file ends first.
    fn element(&mut self) -> io::Result<Element> {
        let mut scan = Scan::default();
        while let Some(byte) = next_byte(&mut self.reader)? {
            if scan.depth == 0 && !scan.text && matches!(byte, b',' | b']') {
                return Ok(Element { bytes: scan.bytes, cut: scan.cut, end: Some(byte) });
            }
            scan.take(byte);
        }
        Ok(Element { bytes: scan.bytes, cut: scan.cut, end: None })
    }
}

impl<R: BufRead> Iterator for JsonElements<R> {
    type Item = Result<Row, ImportError>;

    /// The next row. After the last one, an error if the file has content that would be lost.
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let start = self.reader.read;
        let element = match self.element() {
            Ok(element) => element,
            Err(error) => {
                self.done = true;
                return Some(Err(error.into()));
            }
        };
        self.done = element.end != Some(b',');
        // Without the comma or bracket after it.
        let end = self.reader.read - usize::from(element.end.is_some());
        if element.end == Some(b']')
            && let Err(error) = self.envelope.leave(&mut self.reader)
        {
            return Some(Err(error));
        }
        let bytes = element.bytes.trim_ascii();
        if bytes.is_empty() && element.end == Some(b']') && self.number == 0 {
            return None;
        }
        self.number += 1;
        let mut row = row(self.number, bytes, element.cut, start..end);
        if element.end.is_none() {
            row.entry = Err("the array is not closed: the file ends early".to_owned());
        }
        Some(Ok(row))
    }
}

struct Element {
    bytes: Vec<u8>,
    cut: bool,
    /// The comma or bracket after it.
    end: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Form, Reject};
    use super::*;

    const GOOD: &str = r#"{"video_id":"aaaaaaaaaaa","datetime":"20201209 230000"}"#;

    fn reasons(rejects: &[Reject]) -> Vec<(u64, &str)> {
        rejects.iter().map(|reject| (reject.row, reject.reason.as_str())).collect()
    }

    #[test]
    fn an_object_is_read_strictly() {
        let entry = parse_object(
            br#"{"_id":{"$oid":"x"},"video_id":"aaaaaaaaaaa","datetime":"2020-12-09 23:00:00","code":null,"tags":["a"]}"#,
        )
        .unwrap();
        assert_eq!(entry.holodule().datetime.as_deref(), Some("20201209 230000"));
        assert_eq!(entry.holodule().tags, Some(serde_json::json!(["a"])));
        for (json, part) in [
            (r#"{"key":"","key":""}"#, "has a field twice"),
            (r#"{"title":1}"#, "title: must be a string"),
            (r#"{"name":null,"url":["x"]}"#, "url: must be a string"),
            (r#"{"title":["a"]}"#, "title: must be a string"),
            (r#"{"titel":""}"#, "has the unknown field \"titel\""),
            (r#"{"title":"\ud800"}"#, "is not JSON: there is an error in line 1, column 17"),
            ("{\n", "is not JSON: there is an error in line 2, column 0"),
            (r#"{"video_id":"aaaaaaaaaaa"}x"#, "is not JSON: there is an error in line 1, column 27"),
            (r#"["x"]x"#, "is not a JSON object"),
            (r#"["","","aaaaaaaaaaa","20201209 230000","","","","",1,1,1,1,1]"#, "is not a JSON object"),
            (r#"{"video_id":"aaaaaaaaaaa"}"#, "datetime: is missing"),
            ("null", "is not a JSON object"),
            ("1", "is not a JSON object"),
        ] {
            let reason = parse_object(json.as_bytes()).unwrap_err();
            assert_eq!(reason, part, "{json}");
        }
        assert!(parse_object(b"{\"title\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_invalid_line_does_not_affect_others() {
        let long = format!("{{\"title\":\"{}\"}}", "x".repeat(ROW_LIMIT));
        let file = format!("\u{feff}{GOOD}\n\nnot json\n{long}\n{}", GOOD.replace("aaa", "bbb"));
        let batch = Batch::read(Form::Ndjson, file.as_bytes()).unwrap();
        assert_eq!(batch.entries.len(), 2);
        assert_eq!(batch.rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(batch.rejects[0].raw, Raw::Bytes(b"not json".to_vec()));
    }

    #[test]
    fn an_array_is_read_in_all_its_forms() {
        let other = GOOD.replace("aaa", "bbb");
        for file in [
            format!("[{GOOD},{other}]"),
            format!("\u{feff} [ \n{GOOD} ,\r\n {other}\n]\n"),
            format!(r#"{{"result":2,"holodules":[{GOOD},{other}]}}"#),
            format!(r#"{{ "odd": {{"holodules":[1,"]}}"]}}, "holodules" : [{GOOD},{other}], "more": [] }}"#),
        ] {
            let batch = Batch::read(Form::Json, file.as_bytes()).unwrap();
            assert_eq!((batch.entries.len(), batch.rejects.len()), (2, 0), "{file}");
        }
        for file in ["[]", " [ ] ", r#"{"result":0,"holodules":[]}"#] {
            assert_eq!(Batch::read(Form::Json, file.as_bytes()).unwrap(), Batch::default());
        }
        for file in ["", "x", "{}", r#"{"result":1}"#, r#"{"holodules":{}}"#, "\u{feff}", "null", r#"{"holodules"#] {
            assert!(matches!(Batch::read(Form::Json, file.as_bytes()), Err(ImportError::NoArray)), "{file}");
        }
    }

    #[test]
    fn content_after_the_array_is_an_error() {
        let other = GOOD.replace("aaa", "bbb");
        for file in [
            format!("[{GOOD}] GARBAGE [{other}]"),
            format!("[{GOOD}][{other}]"),
            format!("[{GOOD}]\n[{other}]\n"),
            format!("[{GOOD}]]"),
            format!("[] {other}"),
            format!(r#"{{"holodules":[{GOOD}],"holodules":[{other}]}}"#),
            format!(r#"{{"holodules":[{GOOD}]}}{{"holodules":[{other}]}}"#),
            format!(r#"{{"holodules":[{GOOD}] x}}"#),
        ] {
            let read = Batch::read(Form::Json, file.as_bytes());
            assert!(matches!(read, Err(ImportError::AfterArray)), "{file}: {read:?}");
        }
        for end in ["", ", ", r#", "more""#, r#", "more":1"#] {
            let file = format!(r#"{{"holodules":[{GOOD}]{end}"#);
            let read = Batch::read(Form::Json, file.as_bytes());
            assert!(matches!(read, Err(ImportError::EndsEarly)), "{file}: {read:?}");
        }
        let file = format!(r#"{{"holodules":[{GOOD}], "more":["]}}"], "result":1 }} "#);
        assert_eq!(Batch::read(Form::Json, file.as_bytes()).unwrap().entries.len(), 1);
    }

    #[test]
    fn an_invalid_element_does_not_affect_others() {
        let file = format!(r#"[{GOOD},{{"title":"\"],[{{"}},{{bad}},,{}"#, GOOD.replace("aaa", "bbb"));
        let batch = Batch::read(Form::Json, format!("{file}]").as_bytes()).unwrap();
        assert_eq!(batch.entries.len(), 2);
        assert_eq!(batch.rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [2, 3, 4]);
        let early = Batch::read(Form::Json, file.as_bytes()).unwrap();
        assert_eq!(early.entries.len(), 1);
        assert_eq!(reasons(&early.rejects).last(), Some(&(5, "the array is not closed: the file ends early")));
    }
}
