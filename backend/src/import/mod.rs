//! The three forms in which holodules are uploaded and exported: the collector's CSV,
//! NDJSON and JSON.
//!
//! Pure: rows come from any reader and go to any buffer, and what becomes of them is
//! the caller's affair. A row that cannot be stored is told with its number, the reason
//! and what it held; nothing is passed over in silence, and one bad row costs no other.
//! The memory that a row takes is bounded by [`ROW_LIMIT`].

mod csv;
mod datetime;
mod detect;
mod dialect;
mod encoding;
mod export;
mod guard;
mod json;
mod lines;
mod records;
mod rejects;

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

pub use detect::{detect_dialect, detect_form};
pub use dialect::Dialect;
pub use encoding::{Encoding, NotAnEncoding, NotText, decode};
pub use export::{Exporter, NoCodeColumn};
pub use json::parse_object;
pub use rejects::write_rejects;

use crate::model::{Identifier, ValidHolodule};

/// The longest row, in bytes as it stands in the file. Every valid row is shorter.
pub const ROW_LIMIT: usize = 256 * 1024;

/// The columns of the collector's CSV, in its order. A further one, `code`, may follow.
pub const COLUMNS: [&str; 7] = ["key", "video_id", "datetime", "name", "title", "url", "description"];

/// The form of an upload or an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The collector's: UTF-8 with or without a byte order mark, RFC 4180, a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// One JSON array, or the api's own answer around it.
    Json,
}

impl Form {
    /// The form of a file, told from the end of its name: `csv`, `ndjson`, `jsonl` or `json`.
    pub fn of_extension(extension: &str) -> Option<Self> {
        [("csv", Self::Csv), ("ndjson", Self::Ndjson), ("jsonl", Self::Ndjson), ("json", Self::Json)]
            .into_iter()
            .find_map(|(name, form)| extension.eq_ignore_ascii_case(name).then_some(form))
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Json => "application/json",
        }
    }

    /// The form of a media type, parameters ignored.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        [("text/csv", Self::Csv), ("application/x-ndjson", Self::Ndjson), ("application/json", Self::Json)]
            .into_iter()
            .find_map(|(name, form)| essence.eq_ignore_ascii_case(name).then_some(form))
    }
}

/// Why a whole file cannot be read, where no single row is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Its reader failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The CSV header is not what it must be.
    #[error("the header {0}")]
    Header(String),
    /// The CSV header has columns that are not known.
    #[error("the header has {}; the known ones are {} and code", unknown(.0), COLUMNS.join(", "))]
    UnknownColumns(Vec<String>),
    /// It is no JSON array of rows.
    #[error("must be a JSON array, or an object with an array \"holodules\"")]
    NoArray,
    /// It has more rows than were to be read.
    #[error("has more than {0} rows")]
    TooManyRows(usize),
    /// Its rows hold more values of JSON than were to be read.
    #[error("holds too many values of JSON")]
    TooManyValues,
}

fn unknown(columns: &[String]) -> String {
    let list: Vec<String> = columns.iter().map(|column| format!("{column:?}")).collect();
    if list.len() == 1 {
        format!("an unknown column {}", list.concat())
    } else {
        format!("unknown columns {}", list.join(", "))
    }
}

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows at most. One takes hundreds of times the memory of its shortest text.
    pub rows: usize,
    /// The sum of their [`ValidHolodule::weight`] at most: some 100 bytes of memory each.
    pub weight: usize,
}

/// What a row held, as far as it could be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// The cells, one for each column of the file.
    Cells(Vec<String>),
    /// The bytes of the row without its end, where it could not be split into those cells. What
    /// is beyond [`ROW_LIMIT`] is cut off.
    Bytes(Vec<u8>),
}

/// One row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Counted from 1: CSV rows after the header, lines of NDJSON, elements of an array.
    pub number: u64,
    /// What it held.
    pub raw: Raw,
    /// Where it is in the file, in bytes.
    pub span: Range<usize>,
    /// What can be stored of it, or the reason why it cannot.
    pub entry: Result<ValidHolodule, String>,
}

/// A row that is not stored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// As [`Row::number`].
    pub row: u64,
    /// Fit to be shown.
    pub reason: String,
    /// What it held.
    pub raw: Raw,
    /// As [`Row::span`].
    pub span: Range<usize>,
}

impl Reject {
    /// Takes what [`ROW_LIMIT`] cut off from the file, so that nothing of the row is lost.
    pub fn complete(&mut self, file: &[u8]) {
        if let Raw::Bytes(bytes) = &mut self.raw
            && bytes.len() >= ROW_LIMIT
        {
            *bytes = lines::trimmed(file.get(self.span.clone()).unwrap_or_default()).to_vec();
        }
    }
}

/// The rows of one file, one after the other.
pub struct Rows<R> {
    columns: Vec<String>,
    reader: RowReader<R>,
}

enum RowReader<R> {
    Csv(csv::CsvRows<R>),
    Ndjson(json::JsonLines<R>),
    Json(json::JsonElements<R>),
}

/// Begins to read a file in the collector's dialect. A CSV's header is read at once.
///
/// # Errors
/// [`ImportError`] where the header is wrong or the reader fails.
pub fn read<R: BufRead>(form: Form, reader: R) -> Result<Rows<R>, ImportError> {
    read_as(form, Dialect::default(), reader)
}

/// [`read`] in another dialect.
///
/// # Errors
/// Those of [`read`].
pub fn read_as<R: BufRead>(form: Form, dialect: Dialect, reader: R) -> Result<Rows<R>, ImportError> {
    let (columns, reader) = match form {
        Form::Csv => {
            let (columns, rows) = csv::CsvRows::new(reader, dialect)?;
            (columns, RowReader::Csv(rows))
        }
        Form::Ndjson => (Vec::new(), RowReader::Ndjson(json::JsonLines::new(reader, dialect.line_end))),
        Form::Json => (Vec::new(), RowReader::Json(json::JsonElements::new(reader)?)),
    };
    Ok(Rows { columns, reader })
}

impl<R> Rows<R> {
    /// The columns as the file has them; none for the JSON forms.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.reader {
            RowReader::Csv(rows) => rows.next(),
            RowReader::Ndjson(lines) => lines.next(),
            RowReader::Json(elements) => elements.next(),
        };
        row.map(|row| row.map_err(ImportError::from))
    }
}

/// A whole file, sorted into what is to be stored and what is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// As [`Rows::columns`].
    pub columns: Vec<String>,
    /// In the order of the file, each [`Identifier`] once.
    pub entries: Vec<ValidHolodule>,
    /// In the order of the file: what is invalid, and what a later row supersedes.
    pub rejects: Vec<Reject>,
}

impl Batch {
    /// Reads every row of a file. Of several rows with one [`Identifier`] the last is
    /// stored, and the others are rejects. The memory it takes grows with the file,
    /// whose length is the caller's to bound.
    ///
    /// # Errors
    /// [`ImportError`] where the file as a whole cannot be read: then no row is stored.
    pub fn read<R: BufRead>(form: Form, reader: R) -> Result<Self, ImportError> {
        Self::read_as(form, Dialect::default(), reader)
    }

    /// [`Batch::read`] in another dialect.
    ///
    /// # Errors
    /// Those of [`Batch::read`].
    pub fn read_as<R: BufRead>(form: Form, dialect: Dialect, reader: R) -> Result<Self, ImportError> {
        Self::collect(read_as(form, dialect, reader)?, Bounds { rows: usize::MAX, weight: usize::MAX })
    }

    /// [`Batch::read`] within `bounds`: what a file takes in memory is a hundred times its length
    /// where a stranger has made it so.
    ///
    /// # Errors
    /// [`ImportError::TooManyRows`] and [`ImportError::TooManyValues`] past them, as soon as they
    /// are met, and those of [`Batch::read`].
    pub fn read_within<R: BufRead>(form: Form, reader: R, bounds: Bounds) -> Result<Self, ImportError> {
        Self::collect(read(form, reader)?, bounds)
    }

    fn collect<R: BufRead>(mut unread: Rows<R>, bounds: Bounds) -> Result<Self, ImportError> {
        let columns = unread.columns().to_vec();
        let (mut rows, mut weight) = (Vec::new(), 0_usize);
        for row in unread.by_ref() {
            let row = row?;
            if rows.len() >= bounds.rows {
                return Err(ImportError::TooManyRows(bounds.rows));
            }
            weight = weight.saturating_add(row.entry.as_ref().map_or(0, ValidHolodule::weight));
            if weight > bounds.weight {
                return Err(ImportError::TooManyValues);
            }
            rows.push(row);
        }
        let mut last: HashMap<Identifier, u64> = HashMap::new();
        for row in &rows {
            if let Ok(entry) = &row.entry {
                last.insert(entry.identifier().clone(), row.number);
            }
        }
        let mut batch = Self { columns, ..Self::default() };
        for Row { number, raw, span, entry } in rows {
            let stored = entry.and_then(|entry| match last.get(entry.identifier()) {
                Some(later) if *later != number => Err(format!("superseded by row {later}")),
                _ => Ok(entry),
            });
            match stored {
                Ok(entry) => batch.entries.push(entry),
                Err(reason) => batch.rejects.push(Reject { row: number, reason, raw, span }),
            }
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_no_further_than_its_bounds() {
        let row = |n: usize, tags: &str| {
            format!(r#"{{"video_id":"video{n:06}","datetime":"20201209 230000","tags":{tags}}}{}"#, "\n")
        };
        let file: String = (0..4).map(|n| row(n, "[1,2]")).collect();
        let within = |rows, weight| Batch::read_within(Form::Ndjson, file.as_bytes(), Bounds { rows, weight });
        assert_eq!(within(4, 12).unwrap().entries.len(), 4);
        assert!(matches!(within(3, 12), Err(ImportError::TooManyRows(3))));
        assert!(matches!(within(4, 11), Err(ImportError::TooManyValues)));
    }

    #[test]
    fn a_form_is_known_by_its_extension_and_its_media_type() {
        for (extension, form) in [
            ("csv", Form::Csv),
            ("CSV", Form::Csv),
            ("ndjson", Form::Ndjson),
            ("jsonl", Form::Ndjson),
            ("json", Form::Json),
        ] {
            assert_eq!(Form::of_extension(extension), Some(form));
        }
        assert_eq!(Form::of_extension("txt"), None);
        for form in [Form::Csv, Form::Ndjson, Form::Json] {
            assert_eq!(Form::of_media_type(form.media_type()), Some(form));
        }
        assert_eq!(Form::of_media_type("Text/CSV ;charset=utf-8"), Some(Form::Csv));
        for other in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/csvx"] {
            assert_eq!(Form::of_media_type(other), None, "{other:?}");
        }
    }
}
