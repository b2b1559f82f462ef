//! The collector's CSV: RFC 4180, UTF-8, a header, quoted line breaks.

use std::io::{self, BufRead};

use super::records::{CsvRecord, CsvRecords, split};
use super::{COLUMNS, Dialect, ImportError, ROW_LIMIT, Raw, Row, datetime, guard, json, lines};
use crate::model::{Holodule, ValidHolodule};

/// The additional columns of a file of rejects.
pub(super) const REJECT_COLUMNS: [&str; 2] = ["row", "reason"];
/// The column of rejected rows without cells, which contains their JSON.
pub(super) const RAW_COLUMN: &str = "raw";

/// Iterates over the rows of a CSV file.
pub(super) struct CsvRows<R> {
    columns: Vec<String>,
    /// One for each column.
    kinds: Vec<ColumnKind>,
    guarded: bool,
    records: CsvRecords<R>,
    number: u64,
}

/// The content of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnKind {
    /// The field at this index of [`COLUMNS`].
    Field(usize),
    Code,
    /// A complete row as JSON.
    Raw,
    /// Not stored.
    Ignored,
}

impl<R: BufRead> CsvRows<R> {
    /// Reads the header: the collector's seven columns in any order, and optionally `code`. A file of rejects has two
    /// more, and an escaped file has a marker column; these are not stored.
    pub(super) fn new(reader: R, dialect: Dialect) -> Result<(Vec<String>, Self), ImportError> {
        let mut records = CsvRecords::new(reader, dialect);
        let header = records.next()?.ok_or_else(|| ImportError::Header("is missing: the file is empty".to_owned()))?;
        let bytes = header.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&header.bytes);
        let text = std::str::from_utf8(bytes).ok().filter(|_| header.whole);
        let Some(Ok(columns)) = text.map(|text| split(text, dialect)) else {
            return Err(ImportError::Header("is not CSV in UTF-8".to_owned()));
        };
        let (kinds, unknown) = column_kinds(&columns);
        if !unknown.is_empty() && !dialect.ignore_unknown {
            return Err(ImportError::UnknownColumns(unknown));
        }
        for (at, column) in columns.iter().enumerate() {
            let ignored = kinds.get(at) == Some(&ColumnKind::Ignored);
            if !ignored && columns.iter().take(at).any(|earlier| earlier == column) {
                return Err(ImportError::Header(format!("has the column {column:?} twice")));
            }
        }
        if !kinds.contains(&ColumnKind::Raw)
            && let Some(missing) = COLUMNS.iter().find(|column| !columns.iter().any(|other| other == *column))
        {
            return Err(ImportError::Header(format!("has no column {missing:?}")));
        }
        let guarded = columns.iter().any(|column| column == guard::COLUMN);
        Ok((columns.clone(), Self { columns, kinds, guarded, records, number: 0 }))
    }

    fn row(&self, record: &CsvRecord) -> (Raw, Result<ValidHolodule, String>) {
        let bytes = || Raw::Bytes(lines::trimmed(&record.bytes).to_vec());
        if !record.whole {
            return (bytes(), Err(format!("a quote is not closed, or the row is longer than {ROW_LIMIT} bytes")));
        }
        let Ok(line) = std::str::from_utf8(&record.bytes) else { return (bytes(), Err("is not UTF-8".to_owned())) };
        let cells = match split(line, self.records.dialect) {
            Ok(cells) => cells,
            Err(reason) => return (bytes(), Err(reason.to_owned())),
        };
        if cells.len() != self.columns.len() {
            return (bytes(), Err(format!("has {} cells where the header has {}", cells.len(), self.columns.len())));
        }
        let entry = self.entry(&cells);
        (Raw::Cells(cells), entry)
    }

    fn entry(&self, cells: &[String]) -> Result<ValidHolodule, String> {
        let mut holodule = Holodule::default();
        for (kind, cell) in self.kinds.iter().zip(cells) {
            let cell = if self.guarded { guard::unguard(cell.clone()) } else { cell.clone() };
            match kind {
                ColumnKind::Raw => return json::parse_object(cell.as_bytes()),
                // An optional column: an empty cell means no code.
                ColumnKind::Code => holodule.code = Some(cell).filter(|code| !code.is_empty()),
                ColumnKind::Ignored => {}
                ColumnKind::Field(0) => holodule.key = Some(cell),
                ColumnKind::Field(1) => holodule.video_id = Some(cell),
                ColumnKind::Field(2) => holodule.datetime = Some(datetime::stored(cell)),
                ColumnKind::Field(3) => holodule.name = Some(cell),
                ColumnKind::Field(4) => holodule.title = Some(cell),
                ColumnKind::Field(5) => holodule.url = Some(cell),
                ColumnKind::Field(_) => holodule.description = Some(cell),
            }
        }
        ValidHolodule::new(holodule).map_err(|invalid| invalid.to_string())
    }
}

/// The content of each column, and the unknown columns.
fn column_kinds(columns: &[String]) -> (Vec<ColumnKind>, Vec<String>) {
    let of_upload = without_reject_columns(columns);
    let is_raw = of_upload == [RAW_COLUMN] && of_upload.len() < columns.len();
    let mut unknown = Vec::new();
    let kinds = columns.iter().enumerate().map(|(at, column)| {
        if let Some(field) = COLUMNS.iter().position(|known| known == column) {
            return ColumnKind::Field(field);
        }
        match column.as_str() {
            "code" => ColumnKind::Code,
            _ if at >= of_upload.len() => ColumnKind::Ignored,
            RAW_COLUMN if is_raw => ColumnKind::Raw,
            guard::COLUMN => ColumnKind::Ignored,
            _ => {
                unknown.push(column.clone());
                ColumnKind::Ignored
            }
        }
    });
    (kinds.collect(), unknown)
}

/// The columns without those added to a file of rejects.
pub(super) fn without_reject_columns(columns: &[String]) -> &[String] {
    match columns.split_last_chunk() {
        Some((of_upload, [row, reason])) if [row, reason] == REJECT_COLUMNS => of_upload,
        _ => columns,
    }
}

impl<R: BufRead> Iterator for CsvRows<R> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next() {
                Ok(Some(record)) => record,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            // Empty lines are not rows.
            if matches!(record.bytes.as_slice(), b"\n" | b"\r\n" | b"\r" | b"") {
                continue;
            }
            self.number += 1;
            let (raw, entry) = self.row(&record);
            let CsvRecord { span, .. } = record;
            return Some(Ok(Row { number: self.number, raw, span, entry }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Form};
    use super::*;

    const HEADER: &str = "key,video_id,datetime,name,title,url,description\r\n";

    fn batch(rows: &str) -> Batch {
        Batch::read(Form::Csv, format!("{HEADER}{rows}").as_bytes()).unwrap()
    }

    fn row(n: u32) -> String {
        format!("HL0001_20201209_2300{n:02},aaaaaaaaa{n:02},2020-12-09 23:00:{n:02},n,t,,\r\n")
    }

    #[test]
    fn each_defect_is_reported_and_the_rest_is_stored() {
        let defects = include_bytes!("../../../ops/sample/defects.csv");
        let batch = Batch::read(Form::Csv, defects.as_slice()).unwrap();
        let stored: Vec<_> = batch.entries.iter().map(|entry| entry.identifier().to_string()).collect();
        assert_eq!(stored, ["bbbbbbbbbb5", "bbbbbbbbbb6"]);
        assert_eq!(batch.entries[1].holodule().title.as_deref(), Some("改行\nと\"引用符\""));
        let reported: Vec<_> = batch.rejects.iter().map(|reject| (reject.row, reject.reason.as_str())).collect();
        let time = "datetime: must be a day of the calendar and a time of the day";
        assert_eq!(
            reported,
            [
                (1, "video_id: must not be empty where the key is empty too"),
                (2, "video_id: must be empty or 11 characters of A-Z, a-z, 0-9, _ and -"),
                (3, time),
                (4, time),
                (5, time),
                (6, "has 4 cells where the header has 7"),
                (7, "superseded by row 8"),
                (10, "url: must be empty or begin with http:// or https:// and a host, without spaces"),
            ]
        );
    }

    #[test]
    fn columns_are_known_by_their_names() {
        let file = "datetime,code,key,video_id,description,name,title,url\n\
                    20201209 230000,HL0503,,aaaaaaaaaaa,d,n,t,\n2020-12-09 23:00:00,,,bbbbbbbbbbb,,,,\n";
        let batch = Batch::read(Form::Csv, file.as_bytes()).unwrap();
        assert_eq!(batch.rejects, []);
        let [first, second] = [0, 1].map(|at| batch.entries[at].holodule());
        assert_eq!((first.code.as_deref(), first.description.as_deref()), (Some("HL0503"), Some("d")));
        assert_eq!((second.code.as_deref(), second.datetime.as_deref()), (None, Some("20201209 230000")));
    }

    #[test]
    fn a_file_with_an_invalid_header_is_rejected() {
        for (file, reason) in [
            ("", "the header is missing: the file is empty"),
            ("key,video_id\n", "the header has no column \"datetime\""),
            ("key,key\n", "the header has the column \"key\" twice"),
            (
                "key,id\n",
                "the header has an unknown column \"id\"; the known ones are key, video_id, datetime, name, title, url, description and code",
            ),
            (
                "a;b,key,c\n",
                "the header has unknown columns \"a;b\", \"c\"; the known ones are key, video_id, datetime, name, title, url, description and code",
            ),
            ("key,\"video_id\n", "the header is not CSV in UTF-8"),
        ] {
            let refused = Batch::read(Form::Csv, file.as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), reason);
        }
    }

    #[test]
    fn a_stray_quote_rejects_only_its_own_line() {
        let bad = "HL0001_20201209_230001,aaaaaaaaa01,2020-12-09 23:00:01,n,\"t,,\r\n";
        let batch = batch(&format!("{}{bad}{}{}", row(2), row(3), row(4)));
        assert_eq!(batch.entries.len(), 3);
        assert_eq!(batch.rejects.len(), 1);
        assert_eq!(batch.rejects[0].row, 2);
        assert_eq!(batch.rejects[0].raw, Raw::Bytes(bad.trim_end().into()));
    }

    #[test]
    fn a_row_that_is_too_long_or_not_text_rejects_no_other() {
        let long = format!("x,{}\r\n", "y".repeat(2 * ROW_LIMIT));
        let quoted = format!("x,\"{}\"\r\n", "y\n".repeat(ROW_LIMIT));
        let mut file = format!("{HEADER}{}{long}{}", row(1), row(2)).into_bytes();
        file.extend(b"\xff\xfe,bad,,,,,\r\n");
        file.extend(row(3).bytes());
        let batch = Batch::read(Form::Csv, file.as_slice()).unwrap();
        assert_eq!(batch.entries.len(), 3);
        assert_eq!(batch.rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [2, 4]);
        let Raw::Bytes(shown) = &batch.rejects[0].raw else { panic!() };
        assert_eq!(shown.len(), ROW_LIMIT);
        // Quoted line breaks do not extend the limit of a row.
        let batch = self::batch(&format!("{quoted}{}", row(1)));
        assert_eq!(batch.entries.len(), 1);
        assert!(batch.rejects.iter().all(|reject| !reject.reason.is_empty()));
    }

    #[test]
    fn a_hostile_file_is_not_rescanned_without_bound() {
        // After each line, a quote is open.
        let lines = 200_000;
        let batch = batch(&"a\",\"z\n".repeat(lines));
        assert_eq!(batch.entries, []);
        assert!(batch.rejects.len() >= 64 && batch.rejects.len() < 200, "{}", batch.rejects.len());
    }
}
