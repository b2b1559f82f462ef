//! Raw settings: one TOML file, overlaid by `.env` and the environment, read key by
//! key so that every error can be told together.
//!
//! A key's environment name is its path in upper case with `_` for each dot
//! (`tls.certificate` is `TLS_CERTIFICATE`). A secret may stand in a
//! file that `<NAME>_FILE` names. The environment wins over `.env`, and that over
//! the TOML file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::environment::Environment;
use crate::given::Given;
use crate::problem::{Problem, Problems};
use crate::secret::{Secret, exposed, read_secret_file};
use crate::unquoted;

/// The settings as they were given, and what was found wrong so far.
#[derive(Debug)]
pub struct Source {
    table: Table,
    /// Where the table is from.
    file: Option<PathBuf>,
    environment: Environment,
    asked: BTreeSet<String>,
    given: Given,
    warnings: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Source {
    /// Reads `file` (none is an empty one) below `environment`.
    pub fn read(file: Option<&Path>, environment: Environment) -> Self {
        let mut source = Self {
            table: Table::new(),
            file: file.map(Path::to_owned),
            environment,
            asked: BTreeSet::new(),
            given: Given::default(),
            warnings: BTreeSet::new(),
            problems: Vec::new(),
        };
        let Some(file) = file else { return source };
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Err(error) => source.problem(&name, error.to_string()),
            Ok(text) => match text.parse::<Table>() {
                Ok(table) => source.table = table,
                // The message without the source line, which may hold a secret.
                Err(error) => {
                    let line =
                        error.span().map(|span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
                    let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
                    let reason = unquoted::hint(&text, error.span()).unwrap_or(error.message());
                    source.problem(&name, format!("{reason}{place}"));
                }
            },
        }
        source
    }

    /// The keys that were read so far, for a test that compares them with the reference file.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().map(String::as_str)
    }

    /// What was given so far, but for secrets.
    pub fn given(&self) -> Given {
        self.given.clone()
    }

    /// What was found so far that does not keep from serving.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().collect()
    }

    /// Warns where others than its owner and its group can read the file at `path`, which holds a
    /// secret, or others than its owner can change it.
    pub fn expect_private(&mut self, path: &Path) {
        self.warnings.extend(exposed(path));
    }

    /// [`Source::expect_private`] for the configuration file itself, which holds one.
    pub fn expect_private_file(&mut self) {
        if let Some(file) = self.file.clone() {
            self.expect_private(&file);
        }
    }

    /// How many problems were noted so far.
    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Notes that `key` is wrong.
    pub fn problem(&mut self, key: &str, reason: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), reason: reason.into() });
    }

    /// The value of `key` as its type reads it, or `None` where it is not given or is wrong.
    ///
    /// Text from the environment is taken as a string where the type takes one, else as TOML.
    pub fn get<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let name = environment_name(key);
        let in_file = self.lookup(key);
        let result = match self.environment.get(&name) {
            Some(text) => {
                self.given.note(key, text.clone());
                from_text::<T>(text).map_err(|reason| (name, reason))
            }
            None => {
                let in_file = in_file?;
                self.given.note(key, format!("{in_file:?}"));
                in_file.try_into::<T>().map_err(|error: toml::de::Error| (key.to_owned(), error.message().to_owned()))
            }
        };
        result.map_err(|(key, reason)| self.problem(&key, reason)).ok()
    }

    /// [`Source::get`], with what holds where nothing is given.
    pub fn get_or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// The value of `key` through `parse`, whose error is the reason told.
    pub fn parse<T, E: fmt::Display>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text: String = self.get(key)?;
        parse(&text).map_err(|error| self.problem(key, error.to_string())).ok()
    }

    /// [`Source::parse`], where an empty text turns off what the key is for.
    pub fn parse_unless_empty<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.parse(key, |text| (!text.is_empty()).then(|| parse(text)).transpose()).flatten()
    }

    /// A number of `key` within `range`, or `default`.
    pub fn number(&mut self, key: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let value = self.get_or(key, default);
        if range.contains(&value) {
            return value;
        }
        self.problem(key, format!("{value} is not within {} and {}", range.start(), range.end()));
        default
    }

    /// A duration of `key` in seconds, fractions allowed, within `range`, or `default`.
    pub fn seconds(&mut self, key: &str, default: f64, range: std::ops::RangeInclusive<f64>) -> std::time::Duration {
        let Seconds(value) = self.get(key).unwrap_or(Seconds(default));
        let value = if range.contains(&value) {
            value
        } else {
            self.problem(key, format!("{value} seconds is not within {} and {}", range.start(), range.end()));
            default
        };
        std::time::Duration::from_secs_f64(value)
    }

    /// A secret: from `<NAME>_FILE`, the environment, `<key>_file` or `key`, in this order. Its
    /// text never stands in a problem.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        let name = environment_name(key);
        let file_key = format!("{key}_file");
        let in_file = self.lookup(&file_key);
        let plain = self.lookup(key);
        let path = match self.environment.get(&format!("{name}_FILE")) {
            Some(path) => Some(path.clone()),
            None if self.environment.contains_key(&name) => None,
            None => match in_file {
                Some(Value::String(path)) => Some(path),
                Some(_) => {
                    self.problem(&file_key, "must be a string");
                    return None;
                }
                None => None,
            },
        };
        if let Some(path) = path {
            return self.secret_file(&file_key, Path::new(&path));
        }
        if let Some(text) = self.environment.get(&name) {
            return Some(Secret::new(text));
        }
        match plain? {
            Value::String(text) => {
                self.expect_private_file();
                Some(Secret::new(text))
            }
            _ => {
                self.problem(key, "must be a string");
                None
            }
        }
    }

    /// The secret in the file at `path`, which `key` names. Its text never stands in a problem.
    pub fn secret_file(&mut self, key: &str, path: &Path) -> Option<Secret> {
        self.expect_private(path);
        read_secret_file(path).map_err(|reason| self.problem(key, reason)).ok()
    }

    /// The tables of `key`, a list of them; none where it is not given or is wrong. They may hold
    /// secrets, so no text of theirs stands in a problem.
    pub fn tables(&mut self, key: &str) -> Vec<Table> {
        let name = environment_name(key);
        let in_file = self.lookup(key);
        let (name, value) = match self.environment.get(&name) {
            Some(text) => {
                let table = format!("value = {text}").parse::<Table>().ok();
                // What is no TOML is no list of tables either.
                (name, table.and_then(|mut table| table.remove("value")).or(Some(Value::Boolean(false))))
            }
            None => (key.to_owned(), in_file),
        };
        let Some(value) = value else { return Vec::new() };
        let tables = value.try_into::<Vec<Table>>();
        tables.map_err(|_| self.problem(&name, "must be a list of tables")).unwrap_or_default()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every problem, unknown keys of the file among them.
    pub fn finish(self) -> Result<(), Problems> {
        self.finish_with(|| Some(()))
    }

    /// What `build` makes of the settings, where nothing was wrong with any.
    ///
    /// # Errors
    /// Every problem, unknown keys of the file among them.
    pub fn finish_with<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problems> {
        let mut unknown = Vec::new();
        collect_unknown(&self.table, "", &self.asked, &mut unknown);
        for key in unknown {
            self.problem(&key, "unknown key");
        }
        if self.problems.is_empty() { build().ok_or(Problems(self.problems)) } else { Err(Problems(self.problems)) }
    }

    /// Every problem that was noted so far; the keys that were not read are none.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn lookup(&mut self, key: &str) -> Option<Value> {
        self.asked.insert(key.to_owned());
        let mut parts = key.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value.clone())
    }
}

/// Seconds, written as an integer or with a fraction.
struct Seconds(f64);

impl<'de> serde::Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected a number of seconds")]
        enum Number {
            Whole(u32),
            Fraction(f64),
        }
        Ok(Self(match Number::deserialize(deserializer)? {
            Number::Whole(whole) => f64::from(whole),
            Number::Fraction(fraction) => fraction,
        }))
    }
}

fn environment_name(key: &str) -> String {
    key.replace('.', "_").to_uppercase()
}

fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let as_string = Value::String(text.to_owned()).try_into::<T>();
    let error = match as_string {
        Ok(value) => return Ok(value),
        Err(error) => error.message().to_owned(),
    };
    let table = format!("value = {text}").parse::<Table>().map_err(|_| error.clone())?;
    let value = table.get("value").cloned().ok_or(error)?;
    value.try_into::<T>().map_err(|error| error.message().to_owned())
}

fn collect_unknown(table: &Table, prefix: &str, asked: &BTreeSet<String>, unknown: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if asked.contains(&key) {
            continue;
        }
        let section = format!("{key}.");
        match value {
            Value::Table(inner) if asked.iter().any(|asked| asked.starts_with(&section)) => {
                collect_unknown(inner, &key, asked, unknown);
            }
            _ => unknown.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn source(toml: &str, environment: &[(&str, &str)]) -> Source {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Source::read(Some(file.path()), environment)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut source = source("[a]\nport = 1\nname = 'file'", &[("A_PORT", "2"), ("A_NAME", "7")]);
        assert_eq!(source.get::<u16>("a.port"), Some(2));
        assert_eq!(source.get::<String>("a.name"), Some("7".to_owned()), "text stays text where text is wanted");
        assert!(source.finish().is_ok());
    }

    #[test]
    fn every_problem_is_told_together() {
        let mut source = source("a = 'x'\nb = 99\nc = 1\n[d]\ne = 2", &[]);
        let _: Option<u16> = source.get("a");
        source.number("b", 1, 1..=10);
        let _: Option<u16> = source.get("d.f");
        let Problems(problems) = source.finish().unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "c", "d.e"]);
    }

    #[test]
    fn a_secret_comes_from_its_file_and_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hush\n").unwrap();
        let mut source = source("key = 'other'", &[("KEY_FILE", file.path().to_str().unwrap())]);
        let secret = source.secret("key").unwrap();
        assert_eq!(secret.expose(), "hush");
        assert_eq!(format!("{secret:?}"), "[secret]");
    }

    #[test]
    fn what_holds_a_secret_is_warned_of_where_others_can_read_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "key = 'hush'\nname = 'a'").unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut source = Source::read(Some(file.path()), Environment::new());
        let _: Option<String> = source.get("name");
        assert_eq!(source.warnings(), [""; 0]);
        assert!(source.secret("key").is_some());
        let path = file.path().display();
        assert_eq!(source.warnings(), [format!("{path} holds a secret and can be read by every user of this machine")]);
    }

    #[test]
    fn a_secret_file_that_is_no_path_is_told() {
        let mut source = source("key = 'hush'\nkey_file = 5", &[]);
        assert!(source.secret("key").is_none());
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("key_file: must be a string") && !told.contains("hush"), "{told}");
    }

    #[test]
    fn a_broken_file_is_told_without_its_text() {
        for toml in [
            "jwt_secret_key = 'hush",
            "jwt_secret_key = hush",
            "jwt_secret_key = \"hush\\q\"",
            "jwt_secret_key = 'hush' hush",
            "jwt_secret_key = 'hush'\njwt_secret_key = 'hush'",
            "hush",
        ] {
            let told = source(toml, &[]).finish().unwrap_err().to_string();
            assert!(told.contains("(line ") && !told.contains("hush"), "{told}");
        }
    }
}
