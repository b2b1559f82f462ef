//! The file of the rows that were not stored.

use ::csv::{Terminator, WriterBuilder};

use super::{Raw, Reject};

/// Writes rejects as CSV in the collector's manner: the columns of the upload, then
/// `row` and `reason`. A row that could not be split into cells stands whole in the
/// first column; an upload without columns gets the one column `raw`.
///
/// # Errors
/// Never for the memory that it writes to, but as [`csv::Writer`] has it.
pub fn write_rejects(columns: &[String], rejects: &[Reject]) -> Result<Vec<u8>, ::csv::Error> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(b"\xEF\xBB\xBF".to_vec());
    let raw = ["raw".to_owned()];
    let columns = if columns.is_empty() { &raw } else { columns };
    writer.write_record(columns.iter().map(String::as_str).chain(["row", "reason"]))?;
    for Reject { row, reason, raw } in rejects {
        let cells = match raw {
            Raw::Cells(cells) => cells.as_slice(),
            Raw::Text(text) => std::slice::from_ref(text),
        };
        let padding = columns.len().saturating_sub(cells.len());
        let cells = cells.iter().map(String::as_str).take(columns.len());
        let row = row.to_string();
        writer.write_record(cells.chain(std::iter::repeat_n("", padding)).chain([row.as_str(), reason.as_str()]))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Form};
    use super::*;

    #[test]
    fn each_reject_stands_with_its_cells_its_row_and_the_reason() {
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
    fn rejects_of_json_stand_as_they_were() {
        let batch = Batch::read(Form::Ndjson, b"{\"key\":1}\n".as_slice()).unwrap();
        let written = String::from_utf8(write_rejects(&batch.columns, &batch.rejects).unwrap()).unwrap();
        assert!(written.starts_with("\u{feff}raw,row,reason\r\n\"{\"\"key\"\":1}\",1,"), "{written}");
    }
}
