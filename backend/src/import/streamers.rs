//! The CSV of streamers.

use std::collections::BTreeMap;

use ::csv::{ReaderBuilder, StringRecord, Trim};

use super::ROW_LIMIT;
use crate::model::{Streamer, check_streamer};

/// The columns of a CSV of streamers. The first three are required.
pub const STREAMER_COLUMNS: [&str; 8] =
    ["code", "name", "group", "id", "affiliations", "image_name", "channel_id", "is_retired"];
/// The required columns.
const REQUIRED: [&str; 3] = ["code", "name", "group"];
/// The maximum number of rows.
const ROWS_LIMIT: usize = 10_000;
/// The maximum number of wrong rows that an error describes.
const DESCRIBED: usize = 20;

/// Why a CSV of streamers cannot be imported. Rows are numbered from 1, without the header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamersError {
    /// It is not UTF-8.
    #[error("the file is not UTF-8")]
    Encoding,
    /// The header is wrong.
    #[error("the header {0}")]
    Header(String),
    /// Rows are wrong; none is imported.
    #[error("{}", .0.join("; "))]
    Rows(Vec<String>),
    /// There are too many rows.
    #[error("the file has more than {ROWS_LIMIT} rows")]
    TooManyRows,
}

/// Reads a CSV of streamers: RFC 4180, UTF-8 with or without a byte order mark, with a header of [`STREAMER_COLUMNS`]
/// in any order. Several affiliations are separated by semicolons. `id` is ignored: the store has its own.
///
/// # Errors
/// [`StreamersError`]; nothing is read in part.
pub fn read_streamers(file: &[u8]) -> Result<Vec<Streamer>, StreamersError> {
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let text = std::str::from_utf8(file).map_err(|_| StreamersError::Encoding)?;
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| StreamersError::Header(format!("cannot be read: {error}")))?.clone();
    check_header(&header)?;
    let (mut streamers, mut problems) = (Vec::new(), Vec::new());
    let mut rows = BTreeMap::new();
    for (row, record) in (1_usize..).zip(reader.records()) {
        if row > ROWS_LIMIT {
            return Err(StreamersError::TooManyRows);
        }
        let streamer = record.map_err(|_| "cannot be read".to_owned()).and_then(|record| streamer(&header, &record));
        match streamer {
            Ok(streamer) => match rows.insert(streamer.code.clone(), row) {
                None => streamers.push(streamer),
                Some(first) => problems.push(format!("row {row}: has the code of row {first}")),
            },
            Err(reason) => problems.push(format!("row {row}: {reason}")),
        }
    }
    if problems.is_empty() {
        return Ok(streamers);
    }
    let others = problems.len().saturating_sub(DESCRIBED);
    problems.truncate(DESCRIBED);
    if others > 0 {
        problems.push(format!("and {others} more"));
    }
    Err(StreamersError::Rows(problems))
}

fn check_header(header: &StringRecord) -> Result<(), StreamersError> {
    let known = STREAMER_COLUMNS.join(", ");
    if let Some(column) = header.iter().find(|column| !STREAMER_COLUMNS.contains(column)) {
        return Err(StreamersError::Header(format!("has an unknown column {column:?}; the known ones are {known}")));
    }
    for name in STREAMER_COLUMNS {
        match header.iter().filter(|column| *column == name).count() {
            0 if REQUIRED.contains(&name) => {
                return Err(StreamersError::Header(format!("lacks the column {name}")));
            }
            0 | 1 => {}
            _ => return Err(StreamersError::Header(format!("has the column {name} twice"))),
        }
    }
    Ok(())
}

fn streamer(header: &StringRecord, record: &StringRecord) -> Result<Streamer, String> {
    if record.len() != header.len() {
        return Err(format!("has {} cells where the header has {}", record.len(), header.len()));
    }
    if record.as_slice().len() > ROW_LIMIT {
        return Err(format!("is longer than {ROW_LIMIT} bytes"));
    }
    let cell = |name: &str| {
        let value = header.iter().zip(record).find(|(column, _)| *column == name).map(|(_, value)| value);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let affiliations = cell("affiliations").unwrap_or_default();
    let affiliations = affiliations.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    let is_retired = match cell("is_retired").as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => return Err("is_retired: must be true, false or empty".to_owned()),
    };
    let streamer = Streamer {
        id: String::new(),
        code: cell("code").unwrap_or_default(),
        name: cell("name"),
        group: cell("group"),
        affiliations: affiliations.collect(),
        image_name: cell("image_name"),
        channel_id: cell("channel_id"),
        is_retired,
    };
    check_streamer(&streamer).map_err(|error| error.to_string())?;
    Ok(streamer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(file: &str) -> String {
        read_streamers(file.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_is_read() {
        let streamers = read_streamers(include_bytes!("../../../ops/sample/streamers.csv")).unwrap();
        assert_eq!(streamers.len(), 32);
        let first = &streamers[0];
        assert_eq!((first.code.as_str(), first.group.as_deref()), ("HL0001", Some("hololive")));
        assert_eq!((first.name.as_deref(), first.is_retired), (Some("ときのそら"), None));
    }

    #[test]
    fn optional_columns_are_read_in_any_order() {
        let file = "\u{feff}group,code,name,is_retired,affiliations,channel_id,image_name,id\r\n\
                    a,HL0001,\"n, m\",TRUE,x; y ;,UC1,i.png,7\r\n,HL0002,,,,,,\r\n";
        let streamers = read_streamers(file.as_bytes()).unwrap();
        let full = Streamer {
            id: String::new(),
            code: "HL0001".into(),
            name: Some("n, m".into()),
            group: Some("a".into()),
            affiliations: vec!["x".into(), "y".into()],
            image_name: Some("i.png".into()),
            channel_id: Some("UC1".into()),
            is_retired: Some(true),
        };
        assert_eq!(streamers, [full, Streamer { code: "HL0002".into(), ..Streamer::default() }]);
        assert_eq!(read_streamers(b"code,name,group\n"), Ok(Vec::new()));
    }

    #[test]
    fn every_wrong_row_is_named_and_nothing_is_imported() {
        let file = "code,name,group,is_retired\nHL0001,a,b,\nX,a,b,\nHL0001,a,b,\nHL0002,a\nHL0003,a,b,maybe\nHL0004,a\tb,c,\n";
        assert_eq!(
            refused(file),
            "row 2: code: must be a streamer's code, such as HL0503; row 3: has the code of row 1; \
             row 4: has 2 cells where the header has 4; row 5: is_retired: must be true, false or empty; \
             row 6: name: must not contain control characters"
        );
        let many: String = (0..30).map(|_| "X,a,b\n").collect();
        assert!(refused(&format!("code,name,group\n{many}")).ends_with("; and 10 more"));
        let rows: String = (0..=ROWS_LIMIT).map(|_| "X,a,b\n").collect();
        assert_eq!(refused(&format!("code,name,group\n{rows}")), "the file has more than 10000 rows");
    }

    #[test]
    fn a_wrong_header_or_encoding_is_refused() {
        assert!(
            refused("code,name,group,age\n")
                .starts_with("the header has an unknown column \"age\"; the known ones are code,")
        );
        assert_eq!(refused("code,name\n"), "the header lacks the column group");
        assert_eq!(refused("code,name,group,code\n"), "the header has the column code twice");
        assert_eq!(refused(""), "the header lacks the column code");
        assert_eq!(read_streamers(b"code,name,group\nHL0001,\xFF,a\n"), Err(StreamersError::Encoding));
    }
}
