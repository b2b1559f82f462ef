//! Raw settings: a TOML file, overridden by `.env` and the environment, read key by key so that all problems can be
//! reported together.
//!
//! The variable of a key is its path in upper case with `_` for each dot (`tls.certificate` is `TLS_CERTIFICATE`). A
//! secret can be in a file given by `<NAME>_FILE`. The environment overrides `.env`, which overrides the TOML file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::bounded::{SETTINGS_LIMIT, read_bounded};
use crate::echo::shown_key;
use crate::environment::Environment;
use crate::files::Files;
use crate::mismatch::{mismatch, syntax_error};
use crate::misspelt::is_misspelt;
use crate::problem::{Problem, Problems};
use crate::secret::{Secret, read_secret_file};
use crate::unquoted;
use crate::value::{from_text, from_value, value_of};
use crate::values::{Origin, Values};

/// The raw settings, and the problems found so far.
#[derive(Debug)]
pub struct Source {
    table: Table,
    /// The file of the table.
    file: Option<PathBuf>,
    environment: Environment,
    keys_read: BTreeSet<String>,
    values: Values,
    warnings: BTreeSet<String>,
    problems: Vec<Problem>,
    /// Whether part of the settings could not be read, so that missing keys may have been in it.
    incomplete: bool,
    /// The files read, apart from that of the table.
    files: Arc<Mutex<Files>>,
}

impl Source {
    /// Reads `file`, overridden by `environment`. Without a file, only the environment is used.
    pub fn read(file: Option<&Path>, environment: Environment) -> Self {
        let mut source = Self {
            table: Table::new(),
            file: file.map(Path::to_owned),
            incomplete: environment.is_incomplete(),
            environment,
            keys_read: BTreeSet::new(),
            values: Values::default(),
            warnings: BTreeSet::new(),
            problems: Vec::new(),
            files: Arc::default(),
        };
        let Some(file) = file else { return source };
        let table = read_bounded(file, SETTINGS_LIMIT).and_then(|bytes| {
            let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8")?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            text.parse::<Table>().map_err(|error| {
                // Without the source line, which may contain a secret.
                let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
                let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
                let hint = unquoted::hint(text, error.span()).map(str::to_owned);
                format!("{}{place}", hint.unwrap_or_else(|| syntax_error(error.message())))
            })
        });
        match table {
            Ok(table) => source.table = table,
            Err(reason) => {
                source.incomplete = true;
                source.problems.push(Problem::of_file(file, reason));
            }
        }
        source
    }

    /// The keys read so far, for tests that compare them with the reference file.
    pub fn keys_read(&self) -> impl Iterator<Item = &str> {
        self.keys_read.iter().map(String::as_str)
    }

    /// The values read so far, without secrets.
    pub fn values(&self) -> Values {
        self.values.clone()
    }

    /// Warnings so far, which do not prevent a start, including variables that are probably misspelt keys.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.warnings.iter().cloned().collect();
        let known: BTreeSet<String> = self.keys_read.iter().map(|key| environment_name(key)).collect();
        for name in self.environment.names().filter(|name| !known.contains(*name)) {
            if let Some(meant) = known.iter().find(|known| is_misspelt(name, known)) {
                let file = if self.environment.is_from_dotenv(name) { " in .env" } else { "" };
                warnings.push(format!("the variable {name}{file} is not known and is ignored; is {meant} meant?"));
            }
        }
        warnings
    }

    /// The number of problems found so far.
    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Records that `key` is invalid or missing. A missing key is not a problem if part of the settings could not be
    /// read.
    pub fn problem(&mut self, key: &str, reason: impl Into<String>) {
        let origin = self.values.origin(key).cloned();
        if self.incomplete && origin.as_ref().is_none_or(|origin| *origin == Origin::Default) {
            return;
        }
        let origin = origin.filter(Origin::is_environment);
        self.problems.push(Problem { key: key.to_owned(), origin, reason: reason.into() });
    }

    /// Records that the value of `key` contradicts another key. It is not a problem if part of the settings could not
    /// be read.
    pub fn conflict(&mut self, key: &str, reason: impl Into<String>) {
        if !self.incomplete {
            self.problem(key, reason);
        }
    }

    /// The value of `key`, or `None` if it is not set or invalid. No problem repeats it.
    ///
    /// A variable is parsed as a string if the type accepts one, otherwise as TOML.
    pub fn get<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.get_as(key, None)
    }

    /// [`Source::get`], where problems state what is `expected`.
    fn get_as<T: DeserializeOwned>(&mut self, key: &str, expected: Option<&str>) -> Option<T> {
        let in_file = self.lookup(key);
        let name = environment_name(key);
        let result = match self.environment.get(&name).map(str::to_owned) {
            Some(text) => {
                self.values.record(key, text.clone());
                self.record_variable(key, &name);
                from_text::<T>(&text)
            }
            None => {
                let in_file = in_file?;
                self.values.record(key, format!("{in_file:?}"));
                self.values.record_origin(key, Origin::File);
                from_value(in_file)
            }
        };
        let (value, shown) = result.map_err(|error| self.problem(key, error.reason(expected))).ok()?;
        self.values.record_shown(key, &shown);
        Some(value)
    }

    /// Records that the value of `key` is from the variable `name`.
    fn record_variable(&mut self, key: &str, name: &str) {
        let from_dotenv = self.environment.is_from_dotenv(name);
        let origin = if from_dotenv { Origin::Dotenv } else { Origin::Variable };
        self.values.record_origin(key, origin(name.to_owned()));
    }

    /// Records what was read from a file that `key` names, or a table of that list, so that a change of it is detected.
    pub fn record_content(&mut self, key: &str, content: &[u8]) {
        self.values.record_content(key, content);
    }

    /// Never shows the value of `key`, although it is not a secret by itself.
    pub fn conceal(&mut self, key: &str) {
        self.values.record_secret(key);
    }

    /// [`Source::get`] with a default.
    pub fn get_or<T: DeserializeOwned + fmt::Debug>(&mut self, key: &str, default: T) -> T {
        self.get(key).unwrap_or_else(|| {
            self.values.record_default(key, format!("{default:?}"));
            default
        })
    }

    /// The value of `key` parsed by `parse`, whose error becomes the problem.
    pub fn parse<T, E: fmt::Display>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text: String = self.get(key)?;
        parse(&text).map_err(|error| self.problem(key, error.to_string())).ok()
    }

    /// [`Source::parse`], with an empty text as `None`.
    pub fn parse_unless_empty<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.parse(key, |text| (!text.is_empty()).then(|| parse(text)).transpose()).flatten()
    }

    /// A secret from `<NAME>_FILE`, the environment, `<key>_file` or `key`, in this order. No problem repeats it or the
    /// path, in whose place it may have been set.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        let secret = self.read_secret(key);
        if let Some(secret) = &secret {
            self.values.record_content(key, secret.expose().as_bytes());
        }
        secret
    }

    fn read_secret(&mut self, key: &str) -> Option<Secret> {
        let name = environment_name(key);
        let file_key = format!("{key}_file");
        let in_file = self.lookup(&file_key);
        let plain = self.lookup(key);
        let file_name = environment_name(&file_key);
        if let Some(path) = self.environment.get(&file_name).map(PathBuf::from) {
            self.record_variable(key, &file_name);
            self.record_variable(&file_key, &file_name);
            self.values.record_shown(&file_key, &Value::String(path.to_string_lossy().into_owned()));
            return self.read_secret_file(&file_key, &path);
        }
        if let Some(text) = self.environment.get(&name).map(Secret::new) {
            self.record_variable(key, &name);
            return Some(text);
        }
        if let Some(path) = in_file {
            self.values.record_origin(key, Origin::File);
            self.values.record_origin(&file_key, Origin::File);
            return match path {
                Value::String(path) => {
                    self.values.record_shown(&file_key, &Value::String(path.clone()));
                    self.read_secret_file(&file_key, Path::new(&path))
                }
                _ => {
                    self.problem(&file_key, NOT_A_STRING);
                    None
                }
            };
        }
        let plain = plain?;
        self.values.record_origin(key, Origin::File);
        match plain {
            Value::String(text) => {
                self.expect_private_file();
                Some(Secret::new(text))
            }
            _ => {
                self.problem(key, NOT_A_STRING);
                None
            }
        }
    }

    /// The secret in the file at `path`, which is the value of `key`. No problem repeats it or the path.
    pub fn secret_file(&mut self, key: &str, path: &Path) -> Option<Secret> {
        let secret = self.read_secret_file(key, path)?;
        self.values.record_content(key, secret.expose().as_bytes());
        Some(secret)
    }

    fn read_secret_file(&mut self, key: &str, path: &Path) -> Option<Secret> {
        self.expect_private(path);
        read_secret_file(path).map_err(|reason| self.problem(key, reason)).ok()
    }

    /// The list of tables `key`; empty if it is not set or invalid. No problem repeats a part of it, which may be a
    /// secret.
    pub fn tables(&mut self, key: &str) -> Vec<Table> {
        let tables = self.read_tables(key).unwrap_or_default();
        if !tables.is_empty() {
            self.values.record_content(key, format!("{tables:?}").as_bytes());
        }
        tables
    }

    /// [`Source::tables`] for a key without secrets, whose changes are detected. `None` if it is not set or invalid.
    pub fn plain_tables(&mut self, key: &str) -> Option<Vec<Table>> {
        let tables = self.read_tables(key)?;
        self.values.record(key, format!("{tables:?}"));
        Some(tables)
    }

    fn read_tables(&mut self, key: &str) -> Option<Vec<Table>> {
        let name = environment_name(key);
        let in_file = self.lookup(key);
        let value = match self.environment.get(&name).map(value_of) {
            Some(value) => {
                self.record_variable(key, &name);
                value
            }
            None => {
                let in_file = in_file?;
                self.values.record_origin(key, Origin::File);
                Some(in_file)
            }
        };
        let tables = value.and_then(|value| Some((value.clone().try_into::<Vec<Table>>().ok()?, value)));
        let Some((tables, value)) = tables else {
            self.problem(key, "must be a list of tables");
            return None;
        };
        self.values.record_shown(key, &value);
        Some(tables)
    }

    /// Finishes reading.
    ///
    /// # Errors
    /// All problems, including unknown keys in the file.
    pub fn finish(self) -> Result<(), Problems> {
        self.finish_with(|| Some(()))
    }

    /// Returns the result of `build` if there are no problems.
    ///
    /// # Errors
    /// All problems, including unknown keys in the file.
    pub fn finish_with<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problems> {
        let mut unknown = Vec::new();
        collect_unknown(&self.table, "", &self.keys_read, &mut unknown);
        for (key, reason) in unknown {
            self.problems.push(Problem { key: shown_key(&key), origin: None, reason });
        }
        if self.problems.is_empty() { build().ok_or(Problems(self.problems)) } else { Err(Problems(self.problems)) }
    }

    /// All problems so far, without unknown keys.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn lookup(&mut self, key: &str) -> Option<Value> {
        self.keys_read.insert(key.to_owned());
        let mut parts = key.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value.clone())
    }
}

/// For a secret, of which not even a number is repeated.
const NOT_A_STRING: &str = "must be a string, in quotes";

fn environment_name(key: &str) -> String {
    key.replace('.', "_").to_uppercase()
}

/// Collects the keys of `table` that were not read, with the reason.
fn collect_unknown(table: &Table, prefix: &str, keys_read: &BTreeSet<String>, unknown: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if keys_read.contains(&key) {
            continue;
        }
        let section = format!("{key}.");
        let is_section = keys_read.iter().any(|read| read.starts_with(&section));
        match value {
            Value::Table(inner) if is_section => collect_unknown(inner, &key, keys_read, unknown),
            other if is_section => unknown.push((key.clone(), mismatch(&format!("a section, as in [{key}]"), other))),
            _ => unknown.push((key, "unknown key".to_owned())),
        }
    }
}

mod files;
mod numbers;
#[cfg(test)]
mod tests;
