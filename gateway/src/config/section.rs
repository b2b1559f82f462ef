//! One table of a list such as `[[key]]`, read field by field. Such a table may hold secrets, so no problem contains a
//! value of it.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::{Table, Value};

use holodule_settings::{Secret, Source, mismatch, shown_key};

/// A table from which each field is taken by name; [`Section::finish`] reports the fields that remain.
pub(super) struct Section {
    path: String,
    fields: Table,
}

impl Section {
    /// The tables of `key`.
    pub(super) fn list(source: &mut Source, key: &str) -> Vec<Self> {
        let tables = source.tables(key);
        Self::all(key, tables)
    }

    /// The tables of `key`, which hold no secret; `None` if it is missing or invalid.
    pub(super) fn list_without_secrets(source: &mut Source, key: &str) -> Option<Vec<Self>> {
        let tables = source.plain_tables(key)?;
        Some(Self::all(key, tables))
    }

    fn all(key: &str, tables: Vec<Table>) -> Vec<Self> {
        let tables = tables.into_iter().enumerate();
        tables.map(|(index, fields)| Self { path: format!("{key}[{index}]"), fields }).collect()
    }

    /// The path of the table, as in `key[0]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reports that `field` is invalid.
    pub(super) fn problem(&self, source: &mut Source, field: &str, reason: impl Into<String>) {
        source.problem(&format!("{}.{field}", self.path), reason);
    }

    /// The string in `field`; `None` if it is missing or not a string.
    pub(super) fn text(&mut self, source: &mut Source, field: &str) -> Option<String> {
        self.text_of(source, field, field)
    }

    /// [`Section::text`], for a field that problems name as `shown`.
    pub(super) fn text_of(&mut self, source: &mut Source, field: &str, shown: &str) -> Option<String> {
        match self.fields.remove(field)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(source, shown, mismatch("a string", &other));
                None
            }
        }
    }

    /// [`Section::text`] of a required field.
    pub(super) fn required(&mut self, source: &mut Source, field: &str, what: &str) -> Option<String> {
        if !self.fields.contains_key(field) {
            self.problem(source, field, format!("is required: {what}"));
        }
        self.text(source, field)
    }

    /// A required list of strings.
    pub(super) fn texts(&mut self, source: &mut Source, field: &str, what: &str) -> Option<Vec<String>> {
        let Some(value) = self.fields.remove(field) else {
            self.problem(source, field, format!("is required: {what}"));
            return None;
        };
        let texts = value.clone().try_into::<Vec<String>>().ok();
        if texts.is_none() {
            let form = "a list of strings";
            let reason = if value.is_array() { format!("must be {form}") } else { mismatch(form, &value) };
            self.problem(source, field, reason);
        }
        texts
    }

    /// A required list of values of several types; `form` says which.
    pub(super) fn values(&mut self, source: &mut Source, field: &str, what: &str, form: &str) -> Option<Vec<Value>> {
        match self.fields.remove(field) {
            None => self.problem(source, field, format!("is required: {what}")),
            Some(Value::Array(values)) => return Some(values),
            Some(_) => self.problem(source, field, form),
        }
        None
    }

    /// The table at `index` of the list in `field`.
    pub(super) fn entry(&self, field: &str, index: usize, fields: Table) -> Self {
        Self { path: format!("{}.{field}[{index}]", self.path), fields }
    }

    /// [`Section::texts`]; empty if it is missing.
    pub(super) fn optional_texts(&mut self, source: &mut Source, field: &str) -> Vec<String> {
        let is_present = self.fields.contains_key(field);
        if is_present { self.texts(source, field, "").unwrap_or_default() } else { Vec::new() }
    }

    /// The table in `field`; `None` if it is missing or not a table.
    pub(super) fn table(&mut self, source: &mut Source, field: &str) -> Option<Self> {
        self.table_of(source, field, field)
    }

    /// [`Section::table`], for a field that problems name as `shown`.
    pub(super) fn table_of(&mut self, source: &mut Source, field: &str, shown: &str) -> Option<Self> {
        match self.fields.remove(field)? {
            Value::Table(fields) => Some(Self { path: format!("{}.{shown}", self.path), fields }),
            other => {
                self.problem(source, shown, mismatch("a table", &other));
                None
            }
        }
    }

    /// The names of the fields that were not read yet.
    pub(super) fn names(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// Whether `field` is present and was not read yet.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Ignores `field`.
    pub(super) fn drop(&mut self, field: &str) {
        self.fields.remove(field);
    }

    /// Whether `field` is the string `text`, where otherwise a list is expected.
    pub(super) fn has_text(&mut self, field: &str, text: &str) -> bool {
        let has_text = self.fields.get(field).and_then(Value::as_str) == Some(text);
        if has_text {
            self.fields.remove(field);
        }
        has_text
    }

    /// Whether `field` is true; `None` if it is missing.
    pub(super) fn optional_flag(&mut self, source: &mut Source, field: &str) -> Option<bool> {
        self.fields.contains_key(field).then(|| self.flag(source, field))
    }

    /// Whether `field` is true; false if it is missing.
    pub(super) fn flag(&mut self, source: &mut Source, field: &str) -> bool {
        match self.fields.remove(field) {
            None => false,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                self.problem(source, field, mismatch("true or false", &other));
                false
            }
        }
    }

    /// The whole number in `field`, within `range`; `None` if it is missing or invalid.
    pub(super) fn number(&mut self, source: &mut Source, field: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.whole(source, field, &range, "a whole number")
    }

    /// The duration in `field`, in whole seconds within `range`; `None` if it is missing or invalid.
    pub(super) fn whole_seconds(
        &mut self,
        source: &mut Source,
        field: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.whole(source, field, &range, "a whole number of seconds")
    }

    fn whole(&mut self, source: &mut Source, field: &str, range: &RangeInclusive<u64>, what: &str) -> Option<u64> {
        let value = self.fields.remove(field)?;
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let expected = format!("{what} from {} to {}", range.start(), range.end());
            self.problem(source, field, mismatch(&expected, &value));
        }
        number
    }

    /// [`Section::number`] of a required field.
    pub(super) fn required_number(
        &mut self,
        source: &mut Source,
        field: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        if !self.fields.contains_key(field) {
            self.problem(source, field, "is required: a whole number");
        }
        self.number(source, field, range)
    }

    /// Whether no field remains.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The duration in `field`, in seconds within `range`; `None` if it is missing or invalid.
    pub(super) fn seconds(&mut self, source: &mut Source, field: &str, range: RangeInclusive<f64>) -> Option<Duration> {
        let value = self.fields.remove(field)?;
        let seconds = match value {
            Value::Float(seconds) => Some(seconds),
            Value::Integer(seconds) => i32::try_from(seconds).ok().map(f64::from),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| range.contains(seconds));
        if seconds.is_none() {
            let expected = format!("a number of seconds from {} to {}", range.start(), range.end());
            self.problem(source, field, mismatch(&expected, &value));
        }
        seconds.map(Duration::from_secs_f64)
    }

    /// The time in `field`, in seconds since 1970: an RFC 3339 date-time, as a string or a TOML date-time.
    pub(super) fn moment(&mut self, source: &mut Source, field: &str) -> Option<i64> {
        let text = match self.fields.remove(field)? {
            Value::String(text) => text,
            Value::Datetime(moment) => moment.to_string(),
            _ => String::new(),
        };
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map(OffsetDateTime::unix_timestamp);
        if moment.is_err() {
            self.problem(source, field, "must be an RFC 3339 date-time with its offset, such as 2027-01-01T00:00:00Z");
        }
        moment.ok()
    }

    /// The secret in `field`, or in the file that `<field>_file` names; exactly one of the two is required.
    pub(super) fn secret(&mut self, source: &mut Source, field: &str) -> Option<Secret> {
        let file_field = format!("{field}_file");
        match (self.fields.contains_key(field), self.fields.contains_key(&file_field)) {
            (true, false) => {
                source.expect_private_file();
                match self.fields.remove(field) {
                    Some(Value::String(text)) => Some(Secret::new(text)),
                    // Not even a number is repeated.
                    _ => {
                        self.problem(source, field, "must be a string, in quotes");
                        None
                    }
                }
            }
            (false, true) => {
                let path = self.text(source, &file_field)?;
                source.secret_file(&format!("{}.{file_field}", self.path), Path::new(&path))
            }
            (true, true) => {
                self.fields.remove(field);
                self.fields.remove(&file_field);
                self.problem(source, field, format!("and {file_field} cannot both be given"));
                None
            }
            (false, false) => {
                self.problem(source, field, format!("or {file_field} is required"));
                None
            }
        }
    }

    /// Reports the unknown fields.
    pub(super) fn finish(self, source: &mut Source) {
        for field in self.fields.keys() {
            self.problem(source, &shown_key(field), "unknown key");
        }
    }
}
