//! Writes the file of rejected rows.

use ::csv::{Terminator, WriterBuilder};

use super::{Raw, Reject, csv};

/// Writes rejects as CSV in the collector's dialect, whatever the upload was: the columns of the upload, then `row` and
/// `reason`. After corrections, the file can be imported as it is.
///
/// A row that could not be split is complete in the first column, with its original bytes. For an upload without
/// columns, the only column `raw` contains the JSON of each row.
///
/// # Errors
/// Those of [`::csv::Writer`]; writing to memory does not fail.
pub fn write_rejects(columns: &[String], rejects: &[Reject]) -> Result<Vec<u8>, ::csv::Error> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(b"\xEF\xBB\xBF".to_vec());
    let raw = [csv::RAW_COLUMN.to_owned()];
    // Those of an earlier file of rejects would appear twice.
    let columns = csv::without_reject_columns(columns);
    let columns = if columns.is_empty() { &raw } else { columns };
    writer.write_record(columns.iter().map(String::as_str).chain(csv::REJECT_COLUMNS))?;
    for Reject { row, reason, raw, .. } in rejects {
        let cells: Vec<&[u8]> = match raw {
            Raw::Cells(cells) => cells.iter().map(String::as_bytes).collect(),
            Raw::Bytes(bytes) => vec![bytes],
        };
        let padding = columns.len().saturating_sub(cells.len());
        let cells = cells.into_iter().take(columns.len()).chain(std::iter::repeat_n(&b""[..], padding));
        let row = row.to_string();
        writer.write_record(cells.chain([row.as_bytes(), reason.as_bytes()]))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Form};
    use super::*;

    #[test]
    fn each_reject_has_its_cells_row_and_reason() {
        let defects = include_bytes!("../../../ops/sample/defects.csv");
        let batch = Batch::read(Form::Csv, defects.as_slice()).unwrap();
        let written = String::from_utf8(write_rejects(&batch.columns, &batch.rejects).unwrap()).unwrap();
        let lines: Vec<_> = written.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[0], "\u{feff}key,video_id,datetime,name,title,url,description,row,reason");
        assert!(lines[1].starts_with(",,2020-12-09 21:00:00,") && lines[1].ends_with("too"), "{}", lines[1]);
        assert_eq!(
            lines[6],
            "\"HL0101_20201209_110000,bbbbbbbbbb4,2020-12-09 11:00:00,夜空メル\",,,,,,,6,has 4 cells where the header has 7"
        );
        assert!(lines[7].ends_with("first,7,superseded by row 8"), "{}", lines[7]);
    }

    #[test]
    fn rejects_of_json_are_written_unchanged() {
        let batch = Batch::read(Form::Ndjson, b"{\"key\":1}\n".as_slice()).unwrap();
        let written = String::from_utf8(write_rejects(&batch.columns, &batch.rejects).unwrap()).unwrap();
        assert!(written.starts_with("\u{feff}raw,row,reason\r\n\"{\"\"key\"\":1}\",1,"), "{written}");
    }

    #[test]
    fn a_file_of_rejects_can_be_imported_without_loss() {
        let long = format!("x,{}", "夜".repeat(super::super::ROW_LIMIT));
        let file = [
            b"key;video_id;datetime;name;title;url;description\n".as_slice(),
            b";bbbbbbbbbb5;tomorrow;n;\"a;\"\"b\nc\";;\n",
            b"\xE5\xA4,\"\n",
            long.as_bytes(),
            b"\n;bbbbbbbbbb6;2027/1/1 20:00;;;;\n",
        ]
        .concat();
        let dialect = super::super::detect_dialect(Form::Csv, &file);
        let mut batch = Batch::read_as(Form::Csv, dialect, file.as_slice()).unwrap();
        assert_eq!((batch.entries.len(), batch.rejects.len()), (1, 3), "{:?}", batch.rejects.len());
        batch.rejects.iter_mut().for_each(|reject| reject.complete(&file));
        let written = write_rejects(&batch.columns, &batch.rejects).unwrap();
        let contains = |part: &[u8]| written.windows(part.len()).any(|window| window == part);
        assert!(contains(b"\xE5\xA4") && contains(long.as_bytes()));

        let again = Batch::read(Form::Csv, written.as_slice()).unwrap();
        assert_eq!((again.entries.len(), again.rejects.len()), (0, 3));
        assert_eq!(
            write_rejects(&again.columns, &again.rejects[..1]).unwrap(),
            written[..written.len()][..first_two(&written)]
        );
        let corrected = replace(&written, b"tomorrow", b"2027-01-01T20:00+09:00");
        let corrected = Batch::read(Form::Csv, corrected.as_slice()).unwrap();
        let holodule = corrected.entries[0].holodule();
        assert_eq!(holodule.datetime.as_deref(), Some("20270101 200000"));
        assert_eq!(holodule.title.as_deref(), Some("a;\"b\nc"));
    }

    /// The length of the header and the first row, which has a quoted line break.
    fn first_two(file: &[u8]) -> usize {
        let mut ends = file.windows(2).enumerate().filter(|(_, pair)| *pair == b"\r\n").map(|(at, _)| at + 2);
        ends.nth(1).unwrap()
    }

    fn replace(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = file.windows(from.len()).position(|window| window == from).unwrap();
        [&file[..at], to, &file[at + from.len()..]].concat()
    }

    #[test]
    fn rejected_json_can_be_imported_again() {
        let batch =
            Batch::read(Form::Json, br#"[{"video_id":"bbbbbbbbbb5","datetime":"soon","tags":["a,\"b"]}]"#.as_slice());
        let batch = batch.unwrap();
        let written = write_rejects(&batch.columns, &batch.rejects).unwrap();
        let corrected = replace(&written, b"soon", b"2027-01-01T11:00:00Z");
        let corrected = Batch::read(Form::Csv, corrected.as_slice()).unwrap();
        assert_eq!(corrected.rejects, []);
        let holodule = corrected.entries[0].holodule();
        assert_eq!(
            (holodule.datetime.as_deref(), &holodule.tags),
            (Some("20270101 200000"), &Some(serde_json::json!(["a,\"b"])))
        );
    }
}
