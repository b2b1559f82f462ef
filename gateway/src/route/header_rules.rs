//! Header fields that a route sets and removes.

use http::{HeaderName, HeaderValue};

use crate::syntax::is_same_field;

/// The rules for the fields of requests to the service, or of responses of the service. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Fields that replace those of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that are removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderRules {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Whether `name` is removed, or replaced by a field that is set.
    pub fn removes(&self, name: &HeaderName) -> bool {
        self.remove.iter().chain(self.set.iter().map(|(name, _)| name)).any(|rule| is_same_field(rule, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_every_spelling_of_its_name() {
        let name = |text: &str| text.parse::<HeaderName>().unwrap();
        let rules = HeaderRules {
            set: vec![(name("X-Tenant"), HeaderValue::from_static("a"))],
            remove: vec![name("X_Debug-Level")],
        };
        for removed in ["x-tenant", "X_TENANT", "x-debug-level", "x_debug_level", "X-Debug_Level"] {
            assert!(rules.removes(&name(removed)), "{removed}");
        }
        for other in ["x-tenan", "x-tenants", "xtenant", "x-debug", "x-debug-level-"] {
            assert!(!rules.removes(&name(other)), "{other}");
        }
        assert!(!rules.is_empty() && HeaderRules::default().is_empty());
    }
}
