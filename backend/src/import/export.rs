//! Writes holodules to files. Importing an export restores the same records.

use ::csv::{Terminator, WriterBuilder};

use super::{COLUMNS, Form, guard};
use crate::model::{Holodule, WallClock};

/// Writes an export in parts: [`Exporter::begin`], [`Exporter::record`] for each holodule, [`Exporter::end`].
///
/// CSV has the collector's form: a byte order mark, CRLF, quotes where needed, the seven columns and optionally `code`
/// as an eighth. It lacks the additional fields of newer documents, and a missing text is empty. NDJSON and JSON
/// contain complete records, and missing fields remain missing.
#[derive(Debug)]
pub struct Exporter {
    form: Form,
    code: bool,
    guarded: bool,
    records: u64,
}

/// A record has a `code`, but the CSV was started without that column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record has a code, but the header was written without that column")]
pub struct NoCodeColumn;

impl Exporter {
    /// An export in `form`. `code` adds the eighth CSV column, needed if [`Exporter::needs_code`] is true for any
    /// record.
    pub fn new(form: Form, code: bool) -> Self {
        Self { form, code, guarded: false, records: 0 }
    }

    /// Escapes CSV cells that a spreadsheet would execute as formulas (those beginning with `=`, `+`, `-`, `@`, `'`, a
    /// tab or a carriage return) with an apostrophe, and adds a marker column, so that an import removes the
    /// apostrophes.
    #[must_use]
    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// Whether this record needs the eighth CSV column.
    pub fn needs_code(holodule: &Holodule) -> bool {
        holodule.code.as_ref().is_some_and(|code| !code.is_empty())
    }

    /// The part before the first record.
    pub fn begin(&self) -> Vec<u8> {
        match self.form {
            Form::Csv => {
                let code = self.code.then_some("code");
                let columns = COLUMNS.into_iter().chain(code).chain(self.guarded.then_some(guard::COLUMN));
                [b"\xEF\xBB\xBF".to_vec(), csv_row(columns)].concat()
            }
            Form::Ndjson => Vec::new(),
            Form::Json => b"[".to_vec(),
        }
    }

    /// A record with the separator before it.
    ///
    /// # Errors
    /// [`NoCodeColumn`]: the export must be started again.
    pub fn record(&mut self, holodule: &Holodule) -> Result<Vec<u8>, NoCodeColumn> {
        self.records = self.records.saturating_add(1);
        match self.form {
            Form::Csv if Self::needs_code(holodule) && !self.code => Err(NoCodeColumn),
            Form::Csv => Ok(self.csv_record(holodule)),
            Form::Ndjson => Ok([json(holodule), b"\n".to_vec()].concat()),
            Form::Json => {
                let before: &[u8] = if self.records == 1 { b"\n" } else { b",\n" };
                Ok([before, &json(holodule)].concat())
            }
        }
    }

    /// The part after the last record.
    pub fn end(&self) -> Vec<u8> {
        match self.form {
            Form::Csv | Form::Ndjson => Vec::new(),
            Form::Json if self.records == 0 => b"]\n".to_vec(),
            Form::Json => b"\n]\n".to_vec(),
        }
    }

    fn csv_record(&self, holodule: &Holodule) -> Vec<u8> {
        let stored = holodule.datetime.as_deref().unwrap_or_default();
        // An invalid time in older data is exported unchanged.
        let datetime = WallClock::parse(stored).map_or_else(|_| stored.to_owned(), WallClock::collector);
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let cells = [
            text(&holodule.key),
            text(&holodule.video_id),
            datetime,
            text(&holodule.name),
            text(&holodule.title),
            text(&holodule.url),
            text(&holodule.description),
        ];
        let cells = cells.into_iter().chain(self.code.then(|| text(&holodule.code)));
        if self.guarded {
            return csv_row(cells.map(guard::guard).chain([String::new()]));
        }
        csv_row(cells)
    }
}

fn csv_row<T: AsRef<[u8]>>(cells: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    // Writing to memory does not fail.
    let written = writer.write_record(cells);
    written.ok().and_then(|()| writer.into_inner().ok()).unwrap_or_default()
}

fn json(holodule: &Holodule) -> Vec<u8> {
    // Strings and JSON values can always be serialized.
    serde_json::to_vec(holodule).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::Batch;
    use super::*;
    use crate::model::ValidHolodule;

    fn export<'a>(form: Form, holodules: impl IntoIterator<Item = &'a Holodule> + Clone) -> Vec<u8> {
        let code = holodules.clone().into_iter().any(Exporter::needs_code);
        let mut exporter = Exporter::new(form, code);
        let mut file = exporter.begin();
        for holodule in holodules {
            file.extend(exporter.record(holodule).unwrap());
        }
        file.extend(exporter.end());
        file
    }

    /// A small pseudo-random generator, so that a failure can be repeated from its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }

        fn text(&mut self, lines: bool) -> String {
            const ODD: [char; 16] = [
                '"', ',', '\'', '\\', ' ', '=', ';', '\u{feff}', '\u{2028}', '【', 'é', '👨', '\u{200d}', '{', ']', ':',
            ];
            let length = self.below(12);
            let mut any = || match self.below(4) {
                0 => char::from_u32(u32::try_from(self.below(0x11_0000)).unwrap()).filter(|c| !c.is_control()),
                1 => ODD.get(usize::try_from(self.below(16)).unwrap()).copied(),
                2 if lines => ['\n', '\r', '\t'].get(usize::try_from(self.below(3)).unwrap()).copied(),
                _ => char::from_u32(u32::try_from(0x20 + self.below(0x5f)).unwrap()),
            };
            (0..length).filter_map(|_| any()).collect()
        }

        fn entry(&mut self, number: u64, whole: bool) -> ValidHolodule {
            let maybe = |random: &mut Self, lines| (whole || random.below(3) > 0).then(|| random.text(lines));
            let further = !whole && self.below(2) == 0;
            ValidHolodule::new(Holodule {
                key: Some(format!("HL0503_20201209_{number:06}")),
                video_id: Some(if self.below(5) == 0 { String::new() } else { format!("{number:011}") }),
                code: (self.below(2) == 0).then(|| "HL0503".to_owned()),
                datetime: Some(format!("20201209 {:02}{:02}{:02}", self.below(24), self.below(60), self.below(60))),
                name: maybe(self, false),
                title: maybe(self, true),
                url: if whole { Some("https://例え.jp/?a=\",\"".to_owned()) } else { None },
                description: maybe(self, true),
                tags: further.then(|| json!([self.text(true), { "a": self.text(true) }])),
                published_at: further.then(|| json!(self.text(true))),
                ..Holodule::default()
            })
            .unwrap()
        }
    }

    #[test]
    fn an_export_is_imported_unchanged() {
        for seed in 0..200 {
            for form in [Form::Csv, Form::Ndjson, Form::Json] {
                let mut random = Random(seed);
                let count = random.below(8);
                // CSV does not distinguish missing from empty text.
                let entries: Vec<_> = (0..count).map(|number| random.entry(number, form == Form::Csv)).collect();
                let file = export(form, entries.iter().map(ValidHolodule::holodule));
                let batch = Batch::read(form, file.as_slice()).unwrap();
                assert_eq!(batch.rejects, [], "seed {seed}, {form:?}");
                assert_eq!(batch.entries, entries, "seed {seed}, {form:?}");
            }
        }
    }

    #[test]
    fn an_escaped_export_is_read_back_the_same_and_has_no_formulas() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let entries: Vec<_> = (0..8).map(|number| random.entry(number, true)).collect();
            let mut exporter = Exporter::new(Form::Csv, true).guarded();
            let mut file = exporter.begin();
            for entry in &entries {
                file.extend(exporter.record(entry.holodule()).unwrap());
            }
            let batch = Batch::read(Form::Csv, file.as_slice()).unwrap();
            assert_eq!((batch.rejects, &batch.entries), (Vec::new(), &entries), "seed {seed}");
            for record in ::csv::Reader::from_reader(file.as_slice()).records() {
                let record = record.unwrap();
                assert!(!record.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{record:?}");
            }
        }
    }

    #[test]
    fn the_sample_is_exported_unchanged() {
        let sample = include_bytes!("../../../ops/sample/holodules.csv");
        let batch = Batch::read(Form::Csv, sample.as_slice()).unwrap();
        assert_eq!((batch.entries.len(), batch.rejects.len()), (587, 0));
        assert_eq!(export(Form::Csv, batch.entries.iter().map(ValidHolodule::holodule)), sample);

        // The store sorts by time and key; the collector leaves ties unordered.
        let mut sorted = batch.entries.clone();
        sorted.sort_by(|a, b| {
            let order = |entry: &ValidHolodule| (entry.holodule().datetime.clone(), entry.holodule().key.clone());
            order(a).cmp(&order(b))
        });
        let written = export(Form::Csv, sorted.iter().map(ValidHolodule::holodule));
        let lines = |file: &[u8]| file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
        assert_eq!(lines(&written), lines(sample));
    }

    #[test]
    fn missing_fields_and_invalid_times_are_preserved() {
        let bare = Holodule { datetime: Some("20201209 250000".into()), ..Holodule::default() };
        assert_eq!(export(Form::Ndjson, [&bare]), b"{\"datetime\":\"20201209 250000\"}\n");
        assert_eq!(export(Form::Json, [&bare]), b"[\n{\"datetime\":\"20201209 250000\"}\n]\n");
        assert_eq!(export(Form::Json, []), b"[]\n");
        let csv = String::from_utf8(export(Form::Csv, [&bare])).unwrap();
        assert_eq!(csv.lines().nth(1), Some(",,20201209 250000,,,,"));
    }

    #[test]
    fn the_code_has_a_column_where_a_record_has_a_code() {
        let coded = Holodule { code: Some("HL0503".into()), ..Holodule::default() };
        let csv = String::from_utf8(export(Form::Csv, [&coded])).unwrap();
        assert!(csv.contains("description,code\r\n") && csv.ends_with(",HL0503\r\n"), "{csv}");
        assert_eq!(Exporter::new(Form::Csv, false).record(&coded), Err(NoCodeColumn));
    }
}
