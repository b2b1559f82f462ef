//! The values of all keys, defaults included, for display and comparison.

use super::{Config, Entries};

impl Config {
    /// Every key with its effective value and origin, one per line. Secrets are masked.
    pub fn effective(&self) -> Vec<String> {
        self.values.effective(self.keys_read.iter().map(String::as_str), &defaults())
    }

    /// The effective values for comparison with those of another configuration.
    pub fn entries(&self) -> Entries {
        Entries::new(self.values.entries(self.keys_read.iter().map(String::as_str), &defaults()))
    }
}

/// The defaults of the reference configuration.
fn defaults() -> toml::Table {
    let mut defaults: toml::Table = reference().parse().unwrap_or_default();
    // In the reference these are placeholders.
    for key in ["certificate", "jwt_secret_key"] {
        defaults.remove(key);
    }
    defaults
}

/// The reference configuration with every setting uncommented. A setting is a line that begins with `#` and no
/// space.
pub(super) fn reference() -> String {
    let is_setting = |rest: &&str| rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase());
    let text = include_str!("../../../ops/config/gateway.toml");
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}
