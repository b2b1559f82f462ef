//! The values that were set with their origins, for comparison after a reload and for display.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use toml::{Table, Value};

use crate::echo::{shown, shown_name, shown_path};

/// The placeholder for a secret.
const SECRET: &str = "(secret)";

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The configuration file.
    File,
    /// A variable of the process.
    Variable(String),
    /// A variable of the `.env` file.
    Dotenv(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("from the configuration file"),
            Self::Variable(name) => write!(f, "from {name}"),
            Self::Dotenv(name) => write!(f, "from {name} in .env"),
        }
    }
}

impl Origin {
    /// Whether it is the environment, which readers of the configuration file do not see.
    pub(crate) fn is_environment(&self) -> bool {
        matches!(self, Self::Variable(_) | Self::Dotenv(_))
    }
}

/// Values by key with their origins, without secrets.
#[derive(Clone, Default)]
pub struct Values {
    /// The values compared after a reload.
    values: BTreeMap<String, String>,
    /// Hashes of what is never shown: secrets, and what was read from files. Compared as well.
    contents: BTreeMap<String, u64>,
    settings: BTreeMap<String, Setting>,
}

/// A setting.
#[derive(Clone)]
struct Setting {
    origin: Origin,
    /// The displayed value; for a list of tables, one for each field, with the suffix of the key. `None` for a secret.
    shown: Option<Vec<(String, String)>>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Values {
    /// Records the value of `key`.
    pub(crate) fn record(&mut self, key: &str, value: String) {
        self.values.insert(key.to_owned(), value);
    }

    /// Records a secret, or what was read from a file, that belongs to `key` or to one table of that list, as `key[0].kid`.
    pub(crate) fn record_content(&mut self, key: &str, content: &[u8]) {
        let list = list_of(key);
        let mut hasher = DefaultHasher::new();
        (self.contents.get(list), key, content).hash(&mut hasher);
        self.contents.insert(list.to_owned(), hasher.finish());
    }

    /// Records the origin of `key`.
    pub(crate) fn record_origin(&mut self, key: &str, origin: Origin) {
        self.settings.insert(key.to_owned(), Setting { origin, shown: None });
    }

    /// Records the displayed value of `key`, which is not secret as a whole.
    pub(crate) fn record_shown(&mut self, key: &str, value: &Value) {
        if let Some(setting) = self.settings.get_mut(key) {
            setting.shown = Some(lines(value));
        }
    }

    /// Never displays the value of `key`.
    pub(crate) fn record_secret(&mut self, key: &str) {
        if let Some(setting) = self.settings.get_mut(key) {
            setting.shown = Some(vec![(String::new(), SECRET.to_owned())]);
        }
    }

    /// Records the default of `key`, if it is not set.
    pub(crate) fn record_default(&mut self, key: &str, value: String) {
        let shown = Some(vec![(String::new(), value)]);
        self.settings.entry(key.to_owned()).or_insert(Setting { origin: Origin::Default, shown });
    }

    /// The origin of `key`, or of the list that it is part of, as for `key[0].kid`.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.settings.get(list_of(key)).map(|setting| &setting.origin)
    }

    /// `key` with its origin if that is the environment, for errors: `https_addr, from HTTPS_ADDR`.
    pub fn subject(&self, key: &str) -> String {
        match self.origin(key).filter(|origin| origin.is_environment()) {
            Some(origin) => format!("{key}, {origin}"),
            None => key.to_owned(),
        }
    }

    /// Each of `keys_read` with its effective value and origin, one line each; secrets are masked. `reference` has the
    /// defaults that were not recorded.
    pub fn effective<'a>(&self, keys_read: impl Iterator<Item = &'a str>, reference: &Table) -> Vec<String> {
        let line = |(key, value): (String, Option<(String, &Origin)>)| match value {
            Some((value, origin)) => format!("{key} = {value}  # {origin}"),
            None => format!("# {key} is not set"),
        };
        self.shown(keys_read, reference).into_iter().map(line).collect()
    }

    /// The same as pairs of a key and its value, without the keys that are not set.
    pub fn entries<'a>(&self, keys_read: impl Iterator<Item = &'a str>, reference: &Table) -> Vec<(String, String)> {
        let shown = self.shown(keys_read, reference).into_iter();
        shown.filter_map(|(key, value)| Some((key, value?.0))).collect()
    }

    /// Each key with its displayed value and origin, `None` if it is not set.
    fn shown<'a>(
        &self,
        keys_read: impl Iterator<Item = &'a str>,
        reference: &Table,
    ) -> Vec<(String, Option<(String, &Origin)>)> {
        let mut shown = Vec::new();
        for key in keys_read {
            match self.settings.get(key) {
                Some(Setting { origin, shown: Some(values) }) => {
                    shown.extend(
                        values.iter().map(|(part, value)| (format!("{key}{part}"), Some((value.clone(), origin)))),
                    );
                }
                Some(Setting { origin, shown: None }) => {
                    shown.push((key.to_owned(), Some((SECRET.to_owned(), origin))));
                }
                None => {
                    let mut parts = key.split('.');
                    let top = parts.next().and_then(|part| reference.get(part));
                    if let Some(value) = parts.fold(top, |value, part| value?.get(part)) {
                        let lines = lines(value).into_iter();
                        let default = &Origin::Default;
                        shown.extend(lines.map(|(part, value)| (format!("{key}{part}"), Some((value, default)))));
                    } else if !key.ends_with("_file") {
                        shown.push((key.to_owned(), None));
                    }
                }
            }
        }
        shown
    }

    /// The keys of secrets that differ in `newer`, and of files with another content.
    pub fn changed_contents<'a>(&'a self, newer: &'a Self) -> Vec<&'a str> {
        differing(&self.contents, &newer.contents).collect()
    }

    /// The keys whose values differ in `newer`, those of secrets included, and those of files with another content.
    pub fn changed<'a>(&'a self, newer: &'a Self) -> Vec<&'a str> {
        let values = differing(&self.values, &newer.values).chain(differing(&self.contents, &newer.contents));
        values.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The keys whose values differ in `newer`, except those in `reloaded`, which lists what takes effect without a
    /// restart: keys, and sections ending with a dot.
    pub fn need_restart<'a>(&'a self, newer: &'a Self, reloaded: &[&str]) -> Vec<&'a str> {
        self.changed(newer).into_iter().filter(|key| !is_listed(reloaded, key)).collect()
    }
}

/// The list that `key` is part of, as for `key[0].kid`; `key` itself if there is none.
fn list_of(key: &str) -> &str {
    key.split_once('[').map_or(key, |(list, _)| list)
}

/// The keys that have different values in the two maps, or are only in one.
fn differing<'a, V: PartialEq>(
    one: &'a BTreeMap<String, V>,
    other: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = &'a str> {
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    keys.filter(|key| one.get(*key) != other.get(*key)).map(String::as_str)
}

fn is_listed(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| if name.ends_with('.') { key.starts_with(name) } else { key == *name })
}

/// `value` for display: as TOML, a list of tables field by field.
fn lines(value: &Value) -> Vec<(String, String)> {
    let tables: Option<Vec<&Table>> = value.as_array().map(|list| list.iter().map_while(Value::as_table).collect());
    match (value.as_array(), tables) {
        (Some(list), Some(tables)) if !tables.is_empty() && tables.len() == list.len() => {
            let fields = |(index, table): (usize, &Table)| {
                let line =
                    move |(name, value): (&String, &Value)| (format!("[{index}].{name}"), field_text(name, value));
                table.iter().map(line).collect::<Vec<_>>()
            };
            tables.into_iter().enumerate().flat_map(fields).collect()
        }
        _ => vec![(String::new(), text(value))],
    }
}

/// The fields of tables of lists that hold secrets. Other fields contain these words as well, such as `secret_path`.
const SECRETS: [&str; 2] = ["secret", "sha256"];

/// Whether a name in an inner table, such as that of a header, is probably one of a secret. These names are the
/// operator's.
fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "authorization", "api-key"].iter().any(|word| name.contains(word))
}

/// The fields of tables of lists that hold names: those that name the table, and those that refer to others by name.
const NAMES: [&str; 7] = ["name", "kid", "path", "aliases", "service", "routes", "scopes"];

fn field_text(name: &str, value: &Value) -> String {
    match value {
        _ if SECRETS.contains(&name) => SECRET.to_owned(),
        Value::String(text) if NAMES.contains(&name) => shown_name(text),
        Value::Array(values) if NAMES.contains(&name) => {
            format!("[{}]", values.iter().map(|value| field_text(name, value)).collect::<Vec<_>>().join(", "))
        }
        value => text(value),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(path) if path.starts_with('/') => format!("{:?}", shown_path(path.as_ref())),
        Value::String(other) => shown(other),
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let field = |(name, value): (&String, &Value)| {
                let value = if may_be_secret(name) { SECRET.to_owned() } else { field_text(name, value) };
                format!("{name} = {value}")
            };
            format!("{{ {} }}", table.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(moment) => moment.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[(&str, &str)]) -> Values {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Values { values, ..Values::default() }
    }

    #[test]
    fn changes_that_need_a_restart_are_listed() {
        let before = given(&[("hosts", "[]"), ("https_addr", "a"), ("log.level", "info"), ("token.leeway", "1")]);
        let after = given(&[("hosts", "[]"), ("https_addr", "b"), ("ops_addr", "c"), ("tls.certificate", "d")]);
        let reloaded = ["tls.", "token."];
        assert_eq!(before.need_restart(&after, &reloaded), ["https_addr", "log.level", "ops_addr"]);
        assert_eq!(before.need_restart(&before, &reloaded), [""; 0]);
    }

    #[test]
    fn changes_of_secrets_are_noticed_and_not_shown() {
        let with = |secrets: &[(&str, &str)]| {
            let mut values = given(&[("hosts", "[]")]);
            secrets.iter().for_each(|(key, secret)| values.record_content(key, secret.as_bytes()));
            values
        };
        let before = with(&[("key[0].secret", "hush"), ("key[1].secret", "still"), ("jwt_secret_key", "hush")]);
        assert_eq!(before.changed(&before.clone()), [""; 0]);
        let swapped = with(&[("key[0].secret", "still"), ("key[1].secret", "hush"), ("jwt_secret_key", "hush")]);
        assert_eq!(before.changed(&swapped), ["key"]);
        assert_eq!(before.changed(&with(&[])), ["jwt_secret_key", "key"]);
        assert!(!format!("{before:?}").contains("hush"));
    }

    #[test]
    fn exactly_the_secret_fields_of_tables_are_masked() {
        let table: Table =
            "name = 'docs2'\npath = '/docs2/{*rest}'\nsecret_path = true\nservice = 'v2docs3'\ntickets = true\n\
             routes = ['docs2', '*']\nsha256 = 'a'\nsecret = 'b'\n\
             request_headers = { set = { X-Token = 'c', Authorization = 'd', X-Env = 'staging' } }"
                .parse()
                .unwrap();
        let mut values: Vec<_> = lines(&Value::Array(vec![Value::Table(table)])).into_iter().collect();
        values.sort();
        let expected = [
            ("name", "\"docs2\""),
            ("path", "\"/docs2/{*rest}\""),
            ("request_headers", "{ set = { Authorization = (secret), X-Env = \"staging\", X-Token = (secret) } }"),
            ("routes", "[\"docs2\", \"*\"]"),
            ("secret", "(secret)"),
            ("secret_path", "true"),
            ("service", "\"v2docs3\""),
            ("sha256", "(secret)"),
            ("tickets", "true"),
        ];
        assert_eq!(values, expected.map(|(name, value)| (format!("[0].{name}"), value.to_owned())));
    }

    #[test]
    fn a_list_of_tables_is_shown_field_by_field_without_its_secrets() {
        let toml = "key = [{ kid = 'a', secret = 'hush' }, { kid = 'v2key', secret_file = '/run/key' }]\nhosts = ['a', 'b']\n[b]\nc = 1";
        let table: Table = toml.parse().unwrap();
        let mut given = Values::default();
        for (key, origin) in
            [("key", Origin::Variable("KEY".to_owned())), ("hosts", Origin::Dotenv("HOSTS".to_owned()))]
        {
            given.record_origin(key, origin);
            given.record_shown(key, &table[key]);
        }
        given.record_origin("jwt_secret_key", Origin::File);
        given.record_secret("jwt_secret_key");
        given.record_default("d", "2".to_owned());
        let keys_read = ["key", "hosts", "jwt_secret_key", "b.c", "d", "e", "e_file"];
        let expected = [
            "key[0].kid = \"a\"  # from KEY",
            "key[0].secret = (secret)  # from KEY",
            "key[1].kid = \"v2key\"  # from KEY",
            "key[1].secret_file = \"/run/key\"  # from KEY",
            "hosts = [\"a\", \"b\"]  # from HOSTS in .env",
            "jwt_secret_key = (secret)  # from the configuration file",
            "b.c = 1  # default",
            "d = 2  # default",
            "# e is not set",
        ];
        assert_eq!(given.effective(keys_read.into_iter(), &table), expected);
        assert_eq!(
            (given.subject("key[1].kid"), given.subject("b.c")),
            ("key[1].kid, from KEY".to_owned(), "b.c".to_owned())
        );
    }
}
