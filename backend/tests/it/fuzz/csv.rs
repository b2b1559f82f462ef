//! A CSV file to import. What is stored of it is the same after an export and a second import, the csv crate reads the
//! same cells, and every row is either stored or rejected.

use std::io::BufReader;

use holodule_backend::import::{
    Batch, Dialect, Exporter, Form, ImportError, Raw, detect_dialect, detect_form, read_as,
};
use holodule_backend::model::ValidHolodule;

/// Checks the file `data`, in the collector's dialect and in the detected one.
pub(super) fn check(data: &[u8]) {
    let _ = detect_form(data);
    let detected = detect_dialect(Form::Csv, data);
    let tolerant = Dialect { ignore_unknown: true, ..detected };
    for dialect in [Dialect::default(), detected, tolerant] {
        check_as(dialect, data);
    }
}

fn check_as(dialect: Dialect, data: &[u8]) {
    let Ok(batch) = Batch::read_as(Form::Csv, dialect, data) else { return };
    check_buffer(dialect, data, &batch);
    check_rows(dialect, data, &batch);
    for is_guarded in [false, true] {
        check_export(&batch, is_guarded);
    }
}

/// The size of the reader's buffer changes nothing.
fn check_buffer(dialect: Dialect, data: &[u8], batch: &Batch) {
    for capacity in [1, 7] {
        let again = Batch::read_as(Form::Csv, dialect, BufReader::with_capacity(capacity, data));
        assert_eq!(again.as_ref().ok(), Some(batch), "by {capacity}");
    }
}

fn check_rows(dialect: Dialect, data: &[u8], batch: &Batch) {
    let rows = read_as(Form::Csv, dialect, data).and_then(Iterator::collect::<Result<Vec<_>, ImportError>>).unwrap();
    assert_eq!(rows.len(), batch.entries.len() + batch.rejects.len());
    let mut end = 0;
    for (row, number) in rows.iter().zip(1..) {
        assert!(row.number == number && row.span.start >= end && row.span.end <= data.len(), "{row:?}");
        end = row.span.end;
        let Ok(entry) = &row.entry else { continue };
        let Raw::Cells(cells) = &row.raw else { panic!("a stored row has cells: {row:?}") };
        // A stored row is complete: the csv crate reads the same cells from its bytes.
        assert_eq!(crate_cells(dialect, &data[row.span.clone()]), *cells, "{:?}", &data[row.span.clone()]);
        let stored = entry.holodule();
        let title = batch.columns.iter().position(|column| column == "title").and_then(|at| cells.get(at));
        let is_raw = title.is_none() || batch.columns.iter().any(|column| column == "guarded");
        assert!(is_raw || stored.title.as_ref() == title, "{row:?}");
    }
}

fn crate_cells(dialect: Dialect, record: &[u8]) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).delimiter(u8::try_from(dialect.separator).unwrap());
    if dialect.line_end == b'\r' {
        reader.terminator(csv::Terminator::Any(b'\r'));
    }
    let mut records = reader.from_reader(record).into_records();
    let cells = records.next().expect("there is a record").unwrap();
    assert!(records.next().is_none(), "{record:?} is one record");
    cells.iter().map(str::to_owned).collect()
}

/// The entries come back from an export of them. CSV has no place for the further fields of JSON, and cannot distinguish a
/// missing text from an empty one.
fn check_export(batch: &Batch, is_guarded: bool) {
    let has_code = batch.entries.iter().any(|entry| Exporter::needs_code(entry.holodule()));
    let mut exporter = Exporter::new(Form::Csv, has_code);
    if is_guarded {
        exporter = exporter.guarded();
    }
    let mut file = exporter.begin();
    for entry in &batch.entries {
        file.extend(exporter.record(entry.holodule()).expect("there is a column for each code"));
    }
    file.extend(exporter.end());
    let again = Batch::read(Form::Csv, file.as_slice()).expect("an export can be imported");
    let expected: Vec<ValidHolodule> = batch.entries.iter().map(as_in_csv).collect();
    assert_eq!((again.rejects, again.entries), (Vec::new(), expected), "{}", String::from_utf8_lossy(&file));
    assert_eq!(detect_dialect(Form::Csv, &file), Dialect::default());
}

fn as_in_csv(entry: &ValidHolodule) -> ValidHolodule {
    let mut holodule = entry.holodule().clone();
    for text in [&mut holodule.name, &mut holodule.title, &mut holodule.url, &mut holodule.description] {
        text.get_or_insert_default();
    }
    (holodule.published_at, holodule.channel_id, holodule.channel_title, holodule.tags) = (None, None, None, None);
    ValidHolodule::new(holodule).expect("an entry without them is one, too")
}
