//! One table of a list such as `[[key]]`, read field by field. Such tables may hold secrets, so
//! no value of theirs ever stands in a problem.

use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::{Table, Value};

use holodule_settings::{Secret, Source, shown_key};

/// A table of which every field has to be asked for.
pub(super) struct Entry {
    path: String,
    fields: Table,
}

impl Entry {
    /// The tables of `key`.
    pub(super) fn list(source: &mut Source, key: &str) -> Vec<Self> {
        let tables = source.tables(key);
        Self::all(key, tables)
    }

    /// The tables of `key`, which hold no secret; `None` where it is not given or is wrong.
    pub(super) fn plain_list(source: &mut Source, key: &str) -> Option<Vec<Self>> {
        let tables = source.plain_tables(key)?;
        Some(Self::all(key, tables))
    }

    fn all(key: &str, tables: Vec<Table>) -> Vec<Self> {
        let tables = tables.into_iter().enumerate();
        tables.map(|(index, fields)| Self { path: format!("{key}[{index}]"), fields }).collect()
    }

    /// The table's place, as in `key[0]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Notes that `field` is wrong.
    pub(super) fn problem(&self, source: &mut Source, field: &str, reason: impl Into<String>) {
        source.problem(&format!("{}.{field}", self.path), reason);
    }

    /// The text of `field`, or `None` where it is not given or is none.
    pub(super) fn text(&mut self, source: &mut Source, field: &str) -> Option<String> {
        match self.fields.remove(field)? {
            Value::String(text) => Some(text),
            _ => {
                self.problem(source, field, "must be a string");
                None
            }
        }
    }

    /// [`Entry::text`], which has to be there.
    pub(super) fn required(&mut self, source: &mut Source, field: &str, what: &str) -> Option<String> {
        if !self.fields.contains_key(field) {
            self.problem(source, field, format!("is required: {what}"));
        }
        self.text(source, field)
    }

    /// A list of texts, which has to be there.
    pub(super) fn texts(&mut self, source: &mut Source, field: &str, what: &str) -> Option<Vec<String>> {
        let texts = match self.fields.remove(field) {
            None => {
                self.problem(source, field, format!("is required: {what}"));
                return None;
            }
            Some(value) => value.try_into::<Vec<String>>().ok(),
        };
        if texts.is_none() {
            self.problem(source, field, "must be a list of strings");
        }
        texts
    }

    /// [`Entry::texts`], or none where it is not given.
    pub(super) fn texts_or_none(&mut self, source: &mut Source, field: &str) -> Vec<String> {
        let is_given = self.fields.contains_key(field);
        if is_given { self.texts(source, field, "").unwrap_or_default() } else { Vec::new() }
    }

    /// Whether `field` is true, where it is given.
    pub(super) fn flag_if_given(&mut self, source: &mut Source, field: &str) -> Option<bool> {
        self.fields.contains_key(field).then(|| self.flag(source, field))
    }

    /// Whether `field` is true; it is not where it is not given.
    pub(super) fn flag(&mut self, source: &mut Source, field: &str) -> bool {
        match self.fields.remove(field) {
            None => false,
            Some(Value::Boolean(flag)) => flag,
            Some(_) => {
                self.problem(source, field, "must be true or false");
                false
            }
        }
    }

    /// The moment of `field`, in seconds since 1970: an RFC 3339 date-time, as text or as TOML has it.
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

    /// The secret of `field`, or of the file that `<field>_file` names; one of the two has to be
    /// there.
    pub(super) fn secret(&mut self, source: &mut Source, field: &str) -> Option<Secret> {
        let file_field = format!("{field}_file");
        match (self.fields.contains_key(field), self.fields.contains_key(&file_field)) {
            (true, false) => {
                source.expect_private_file();
                self.text(source, field).map(Secret::new)
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

    /// Notes what was not asked for.
    pub(super) fn finish(self, source: &mut Source) {
        for field in self.fields.keys() {
            self.problem(source, &shown_key(field), "unknown key");
        }
    }
}
