//! What differs between two configurations, for the command `diff`.

use std::collections::BTreeMap;
use std::fmt;

use super::RELOADED;
use crate::token::Digest;

/// The lists of tables that hold secrets. They are compared only with those of another file.
const SECRET_LISTS: [&str; 2] = ["key", "static_token"];

/// The fields that name a table of a list, the most specific first.
const NAMES: [&str; 4] = ["name", "kid", "path", "certificate"];

/// The length of a digest, in hexadecimal digits. Digests only detect changes.
const DIGEST_DIGITS: usize = 32;

/// The effective values of a configuration by key, with secrets masked. The key of a field of a table in a list has the
/// name of the table, as `route "holodules".methods`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<String, String>);

/// Digests of entries by key: what a running gateway publishes of its configuration.
pub type Digests = BTreeMap<String, String>;

/// How an entry or a whole table differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Changed,
}

/// One difference, as a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    change: Change,
    key: String,
    /// The values before and after, as far as they are known and no whole table.
    values: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Added => "added  ",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        let Self { key, values, .. } = self;
        let effect = if is_reloaded(key) { "by reload" } else { "needs an upgrade" };
        write!(f, "{change} {key}{} ({effect})", values.as_deref().unwrap_or_default())
    }
}

/// Whether a reload applies the key of an entry.
fn is_reloaded(key: &str) -> bool {
    let key = key.split([' ', '[']).next().unwrap_or(key);
    RELOADED.iter().any(|listed| if listed.ends_with('.') { key.starts_with(listed) } else { key == *listed })
}

impl Entries {
    /// The entries of `values`, in which a table of a list has its index, as in `route[0].methods`.
    pub(super) fn new(values: Vec<(String, String)>) -> Self {
        let order: Vec<_> = values.iter().map(|(key, _)| key.clone()).collect();
        let by_index: BTreeMap<_, _> = values.into_iter().collect();
        let mut entries = BTreeMap::new();
        let mut orders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        // Tables without a unique name keep their index.
        let mut tables: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for key in &order {
            let Some(value) = by_index.get(key) else { continue };
            let Some((table, field)) = key.rsplit_once("].") else {
                entries.insert(key.clone(), value.clone());
                continue;
            };
            let list = table.split_once('[').map_or(table, |(list, _)| list);
            let name = NAMES.iter().find_map(|field| by_index.get(&format!("{table}].{field}")));
            let name = name.filter(|name| *tables.entry((list, name)).or_insert(table) == table);
            match name {
                Some(name) => {
                    entries.insert(format!("{list} {name}.{field}"), value.clone());
                    let names = orders.entry(list).or_default();
                    if names.last() != Some(&name.as_str()) {
                        names.push(name);
                    }
                }
                None => {
                    entries.insert(key.clone(), value.clone());
                }
            }
        }
        for (list, names) in orders {
            entries.insert(format!("{list} order"), names.join(", "));
        }
        Self(entries)
    }

    /// The entries in force in a process that started with these, after it has reloaded `newer`.
    pub fn after_reload(&self, newer: &Self) -> Self {
        let kept = self.0.iter().filter(|(key, _)| !is_reloaded(key));
        let reloaded = newer.0.iter().filter(|(key, _)| is_reloaded(key));
        Self(kept.chain(reloaded).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// A digest of each entry and `salt`, except those of lists with secrets.
    pub fn digests(&self, salt: &str) -> Digests {
        let digest = |key: &str, value: &str| {
            let mut digest = Digest::of(format!("{salt}\n{key}\n{value}").as_bytes()).to_string();
            digest.truncate(DIGEST_DIGITS);
            digest
        };
        let is_public = |key: &str| !SECRET_LISTS.contains(&key.split([' ', '[']).next().unwrap_or(key));
        let public = self.0.iter().filter(|(key, _)| is_public(key));
        public.map(|(key, value)| (key.clone(), digest(key, value))).collect()
    }

    /// What differs in `self` from `before`.
    pub fn differences_from(&self, before: &Self) -> Vec<Difference> {
        let unset = || "not set".to_owned();
        let values = |key: &str| {
            let [before, after] = [before, self].map(|entries| entries.0.get(key).cloned().unwrap_or_else(unset));
            format!(": {before} -> {after}")
        };
        differences(&before.0, &self.0, values)
    }

    /// What differs in `self` from the configuration that `before` are the digests of, with `salt`.
    pub fn differences_from_digests(&self, before: &Digests, salt: &str) -> Vec<Difference> {
        let value = |key: &str| self.0.get(key).map(|value| format!(" -> {value}")).unwrap_or_default();
        differences(before, &self.digests(salt), value)
    }
}

/// The differences of secrets and of what was read from files, whose keys are `changed`.
pub fn differences_of_contents<'a>(changed: impl IntoIterator<Item = &'a str>) -> Vec<Difference> {
    let difference = |key: &str| Difference {
        change: Change::Changed,
        key: key.to_owned(),
        values: Some(": a secret, or the content of a file".to_owned()),
    };
    changed.into_iter().map(difference).collect()
}

fn differences<V: PartialEq>(
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
    values: impl Fn(&str) -> String,
) -> Vec<Difference> {
    let has_table = |entries: &BTreeMap<String, V>, table: &str| {
        entries
            .range(format!("{table}.")..)
            .next()
            .is_some_and(|(key, _)| key.strip_prefix(table).is_some_and(|field| field.starts_with('.')))
    };
    let mut found: Vec<Difference> = Vec::new();
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    for key in keys.filter(|key| before.get(*key) != after.get(*key)) {
        // A table that is new or gone is one difference.
        let table = key.rsplit_once("\".").map(|(table, _)| format!("{table}\""));
        let whole = table.filter(|table| !has_table(before, table) || !has_table(after, table));
        let is_in = |entries: &BTreeMap<String, V>| match &whole {
            Some(table) => has_table(entries, table),
            None => entries.contains_key(key),
        };
        let change = match (is_in(before), is_in(after)) {
            (false, _) => Change::Added,
            (true, false) => Change::Removed,
            (true, true) => Change::Changed,
        };
        let difference = match whole {
            Some(table) => Difference { change, key: table, values: None },
            None => Difference { change, key: key.clone(), values: Some(values(key)) },
        };
        if !found.contains(&difference) {
            found.push(difference);
        }
    }
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(values: &[(&str, &str)]) -> Entries {
        Entries::new(values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn shown(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    fn before() -> Entries {
        entries(&[
            ("https_addr", "\"a:1\""),
            ("hsts.max_age", "1"),
            ("route[0].name", "\"one\""),
            ("route[0].methods", "[\"GET\"]"),
            ("route[1].path", "\"/two\""),
            ("key[0].kid", "\"k\""),
            ("certificate[0].private_key", "\"/k\""),
        ])
    }

    fn after() -> Entries {
        entries(&[
            ("https_addr", "\"a:2\""),
            ("hsts.max_age", "2"),
            ("log.format", "\"json\""),
            ("route[0].path", "\"/three\""),
            ("route[1].name", "\"one\""),
            ("route[1].methods", "[\"GET\", \"PUT\"]"),
            ("key[0].kid", "\"l\""),
            ("certificate[0].private_key", "\"/k\""),
        ])
    }

    #[test]
    fn tables_of_lists_are_compared_by_their_names() {
        let expected = [
            "changed hsts.max_age: 1 -> 2 (by reload)",
            "changed https_addr: \"a:1\" -> \"a:2\" (needs an upgrade)",
            "removed key \"k\" (by reload)",
            "added   key \"l\" (by reload)",
            "changed key order: \"k\" -> \"l\" (by reload)",
            "added   log.format: not set -> \"json\" (needs an upgrade)",
            "added   route \"/three\" (by reload)",
            "removed route \"/two\" (by reload)",
            "changed route \"one\".methods: [\"GET\"] -> [\"GET\", \"PUT\"] (by reload)",
            "changed route order: \"one\", \"/two\" -> \"/three\", \"one\" (by reload)",
        ];
        assert_eq!(shown(&after().differences_from(&before())), expected);
        assert_eq!(after().differences_from(&after()), []);
    }

    #[test]
    fn a_second_table_of_a_name_is_not_lost() {
        let of = |path: &str| {
            let hidden = "(a value that is not shown)";
            entries(&[
                ("certificate[0].certificate", hidden),
                ("certificate[0].private_key", "\"/a\""),
                ("certificate[1].certificate", hidden),
                ("certificate[1].private_key", path),
            ])
        };
        let expected = "changed certificate[1].private_key: \"/b\" -> \"/c\" (by reload)";
        assert_eq!(shown(&of("\"/c\"").differences_from(&of("\"/b\""))), [expected]);
    }

    #[test]
    fn digests_detect_the_same_changes_without_the_lists_that_hold_secrets() {
        let digests = before().digests("salt");
        let found = shown(&after().differences_from_digests(&digests, "salt"));
        assert!(found.contains(&"changed hsts.max_age -> 2 (by reload)".to_owned()), "{found:?}");
        assert!(found.contains(&"removed route \"/two\" (by reload)".to_owned()), "{found:?}");
        assert_eq!(found.len(), 7, "{found:?}");
        assert_eq!(before().differences_from_digests(&digests, "salt"), []);
        assert!(digests.keys().all(|key| !key.starts_with("key")), "{digests:?}");
        assert_ne!(digests, before().digests("other"));
    }

    #[test]
    fn what_needs_an_upgrade_is_in_force_as_it_was_at_the_start() {
        let in_force = before().after_reload(&after());
        let expected = [
            "changed https_addr: \"a:1\" -> \"a:2\" (needs an upgrade)",
            "added   log.format: not set -> \"json\" (needs an upgrade)",
        ];
        assert_eq!(shown(&after().differences_from(&in_force)), expected);
    }
}
