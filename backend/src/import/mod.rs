//! The formats of uploads and exports: the collector's CSV, NDJSON and JSON.
//!
//! Pure: rows are read from any reader and written to any buffer. A row that cannot be stored is reported with its
//! number, the reason and its content; no row is dropped silently, and an invalid row does not affect others. Memory
//! per row is bounded by [`ROW_LIMIT`].

mod csv;
mod datetime;
mod detect;
mod dialect;
mod encoding;
mod envelope;
mod export;
mod guard;
mod json;
mod lines;
mod records;
mod rejects;
mod streamers;

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

pub use detect::{detect_dialect, detect_form};
pub use dialect::Dialect;
pub use encoding::{Encoding, NotAnEncoding, NotText, decode};
pub use export::{Exporter, NoCodeColumn};
pub use json::parse_object;
pub use rejects::write_rejects;
pub use streamers::{STREAMER_COLUMNS, StreamersError, read_streamers};

use crate::model::{Identifier, ValidHolodule};

/// The longest row, in bytes of the file. Every valid row is shorter.
pub const ROW_LIMIT: usize = 256 * 1024;

/// The columns of the collector's CSV, in its order. `code` may follow.
pub const COLUMNS: [&str; 7] = ["key", "video_id", "datetime", "name", "title", "url", "description"];

/// The format of an upload or export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The collector's CSV: RFC 4180, UTF-8 with or without a byte order mark, with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// One JSON array, alone or in a response of the api listener.
    Json,
}

impl Form {
    /// The format by file extension: `csv`, `ndjson`, `jsonl` or `json`.
    pub fn of_extension(extension: &str) -> Option<Self> {
        [("csv", Self::Csv), ("ndjson", Self::Ndjson), ("jsonl", Self::Ndjson), ("json", Self::Json)]
            .into_iter()
            .find_map(|(name, form)| extension.eq_ignore_ascii_case(name).then_some(form))
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Json => "application/json",
        }
    }

    /// The format by media type, ignoring parameters.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        [("text/csv", Self::Csv), ("application/x-ndjson", Self::Ndjson), ("application/json", Self::Json)]
            .into_iter()
            .find_map(|(name, form)| essence.eq_ignore_ascii_case(name).then_some(form))
    }
}

/// Why a file as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An I/O error.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The CSV header is invalid.
    #[error("the header {0}")]
    Header(String),
    /// The CSV header has unknown columns.
    #[error("the header has {}; the known ones are {} and code", unknown(.0), COLUMNS.join(", "))]
    UnknownColumns(Vec<String>),
    /// It is not a JSON array.
    #[error("must be a JSON array, or an object with an array \"holodules\"")]
    NoArray,
    /// Content follows the JSON array, such as another array.
    #[error("must end after its JSON array: put each array into a file of its own")]
    AfterArray,
    /// It is an object that is not closed after its array.
    #[error("ends before the object around its array does")]
    EndsEarly,
    /// It has more rows than allowed.
    #[error("has more than {0} rows")]
    TooManyRows(usize),
    /// Its rows contain more JSON values than allowed.
    #[error("has too many JSON values")]
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

/// Limits for reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum number of rows. A row takes hundreds of times the memory of its shortest text.
    pub rows: usize,
    /// The maximum sum of [`ValidHolodule::weight`], about 100 bytes of memory each.
    pub weight: usize,
}

/// The content of a row, as far as it could be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// One cell for each column of the file.
    Cells(Vec<String>),
    /// The bytes of the row without the line end, if it could not be split; truncated at [`ROW_LIMIT`].
    Bytes(Vec<u8>),
}

/// One row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Counted from 1: CSV rows after the header, lines of NDJSON, elements of an array.
    pub number: u64,
    /// The content.
    pub raw: Raw,
    /// Where it is in the file, in bytes.
    pub span: Range<usize>,
    /// The holodule, or the reason why it cannot be stored.
    pub entry: Result<ValidHolodule, String>,
}

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// As [`Row::number`].
    pub row: u64,
    /// Safe to show.
    pub reason: String,
    /// The content.
    pub raw: Raw,
    /// As [`Row::span`].
    pub span: Range<usize>,
}

impl Reject {
    /// Restores the part truncated at [`ROW_LIMIT`] from the file, so that nothing is lost.
    pub fn complete(&mut self, file: &[u8]) {
        if let Raw::Bytes(bytes) = &mut self.raw
            && bytes.len() >= ROW_LIMIT
        {
            *bytes = lines::trimmed(file.get(self.span.clone()).unwrap_or_default()).to_vec();
        }
    }
}

/// Iterates over the rows of a file.
pub struct Rows<R> {
    columns: Vec<String>,
    reader: RowReader<R>,
}

enum RowReader<R> {
    Csv(csv::CsvRows<R>),
    Ndjson(json::JsonLines<R>),
    Json(json::JsonElements<R>),
}

/// Reads a file in the collector's dialect. A CSV header is read at once.
///
/// # Errors
/// [`ImportError`] if the header is invalid or the reader fails.
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
    /// The columns of the file; none for the JSON formats.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.reader {
            RowReader::Csv(rows) => rows.next().map(|row| row.map_err(ImportError::from)),
            RowReader::Ndjson(lines) => lines.next().map(|row| row.map_err(ImportError::from)),
            RowReader::Json(elements) => elements.next(),
        }
    }
}

/// A complete file, divided into valid and rejected rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// As [`Rows::columns`].
    pub columns: Vec<String>,
    /// In file order, each [`Identifier`] once.
    pub entries: Vec<ValidHolodule>,
    /// In file order: invalid rows, and those superseded by a later row.
    pub rejects: Vec<Reject>,
}

impl Batch {
    /// Reads all rows of a file. Of several rows with the same [`Identifier`], the last is stored and the others are
    /// rejected. Memory grows with the file, whose length the caller must bound.
    ///
    /// # Errors
    /// [`ImportError`] if the file as a whole cannot be read; then no row is stored.
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

    /// [`Batch::read`] within `bounds`: a hostile file takes a hundred times its length in memory.
    ///
    /// # Errors
    /// [`ImportError::TooManyRows`] and [`ImportError::TooManyValues`] as soon as a bound is exceeded, and those of
    /// [`Batch::read`].
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
    fn reading_stops_at_the_bounds() {
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
    fn a_form_is_recognised_by_extension_and_media_type() {
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
