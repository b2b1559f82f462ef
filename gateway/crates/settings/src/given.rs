//! What was given, so that a later reading can be held against what is served by.

use std::collections::{BTreeMap, BTreeSet};

/// The values that were given, by key; those of secrets are no part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<String, String>);

impl Given {
    /// Notes that `key` was given as `value`.
    pub(crate) fn note(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    /// The keys whose values differ in `newer` and that are not among `reloaded`, which lists what
    /// takes effect without a restart: keys, and sections, which end with a dot.
    pub fn need_restart<'a>(&'a self, newer: &'a Self, reloaded: &[&str]) -> Vec<&'a str> {
        let keys: BTreeSet<_> = self.0.keys().chain(newer.0.keys()).collect();
        let differ = keys.into_iter().filter(|key| self.0.get(*key) != newer.0.get(*key));
        differ.map(String::as_str).filter(|key| !is_listed(reloaded, key)).collect()
    }
}

fn is_listed(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| if name.ends_with('.') { key.starts_with(name) } else { key == *name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[(&str, &str)]) -> Given {
        Given(values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_changed_came_or_went_and_cannot_be_reloaded_is_named() {
        let before = given(&[("hosts", "[]"), ("https_addr", "a"), ("log.level", "info"), ("token.leeway", "1")]);
        let after = given(&[("hosts", "[]"), ("https_addr", "b"), ("ops_addr", "c"), ("tls.certificate", "d")]);
        let reloaded = ["tls.", "token."];
        assert_eq!(before.need_restart(&after, &reloaded), ["https_addr", "log.level", "ops_addr"]);
        assert_eq!(before.need_restart(&before, &reloaded), [""; 0]);
    }
}
