//! The errors in the settings of a route, all of which are reported.

use http::Method;

use super::forwarding::Forwarding;
use super::{InvalidRoute, LimitBy, Pattern, Settings, Upgrade};
use crate::compress::Encoding;
use crate::syntax::is_unreserved;

/// The errors of one route, collected.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<InvalidRoute>);

impl Errors {
    pub(super) fn push(&mut self, field: &'static str, value: Option<&str>, reason: impl Into<String>) {
        self.0.push(InvalidRoute { field, value: value.map(str::to_owned), reason: reason.into() });
    }

    pub(super) fn pattern(&mut self, field: &'static str, text: &str) -> Option<Pattern> {
        Pattern::parse(text).map_err(|error| self.push(field, Some(text), error.to_string())).ok()
    }

    pub(super) fn forwarding(&mut self, settings: &Settings, path: Option<&Pattern>) -> Forwarding {
        let (field, text, forwarding) = match (&settings.strip_prefix, &settings.rewrite) {
            (None, None) => return Forwarding::Unchanged,
            (Some(_), Some(_)) => {
                self.push("rewrite", None, "and strip_prefix cannot both be given");
                return Forwarding::Unchanged;
            }
            (Some(prefix), None) => {
                let Some(path) = path else { return Forwarding::Unchanged };
                ("strip_prefix", prefix, Forwarding::strip(prefix, path))
            }
            (None, Some(text)) => {
                let template = self.pattern("rewrite", text);
                let Some((template, path)) = template.zip(path) else { return Forwarding::Unchanged };
                ("rewrite", text, Forwarding::rewrite(template, path))
            }
        };
        forwarding.unwrap_or_else(|reason| {
            self.push(field, Some(text), reason);
            Forwarding::Unchanged
        })
    }

    /// The names of query parameters in a field.
    pub(super) fn parameters(&mut self, field: &'static str, names: &[String]) {
        for name in names {
            if name.is_empty() || !name.bytes().all(is_unreserved) {
                self.push(field, Some(name), "has a character outside A-Z a-z 0-9 - . _ ~");
            }
        }
    }

    pub(super) fn limit(&mut self, settings: &Settings, path: Option<&Pattern>, cached: bool) {
        let Some(limit) = &settings.bounds.limit else { return };
        match limit.by {
            LimitBy::Identity if settings.public => {
                self.push("limit.by", None, "cannot be \"identity\" on a public route, whose requests have none");
            }
            // Its requests do not count for the limit of their address if the service answers with success. This must
            // not be possible where any path succeeds, or where the cache answers.
            LimitBy::Path if !settings.public || cached || path.is_some_and(Pattern::has_tail) => {
                let reason = "can be \"path\" only on a public route that is not cached and has no {*name}";
                self.push("limit.by", None, reason);
            }
            LimitBy::Address | LimitBy::Identity | LimitBy::Path => {}
        }
        self.parameters("limit.query", limit.query.as_slice());
    }

    pub(super) fn upgrade(&mut self, upgrade: Option<Upgrade>, has_get: bool, cached: bool) {
        if upgrade.is_some() && !has_get {
            self.push("upgrade", None, "can be given only with GET among the methods");
        }
        if upgrade.is_some() && cached {
            self.push("upgrade", None, "cannot be given on a cached route: set cache to false");
        }
    }

    pub(super) fn methods(&mut self, texts: &[String]) -> Vec<Method> {
        let mut methods = Vec::new();
        for text in texts {
            match Method::from_bytes(text.as_bytes()) {
                Ok(Method::CONNECT | Method::TRACE) | Err(_) => {
                    self.push("methods", Some(text), "cannot be forwarded");
                }
                Ok(method) if methods.contains(&method) => self.push("methods", Some(text), "appears twice"),
                Ok(method) => methods.push(method),
            }
        }
        if texts.is_empty() {
            self.push("methods", None, "must have at least one");
        }
        methods
    }

    pub(super) fn encodings(&mut self, names: &[String]) -> Vec<Encoding> {
        let mut encodings = Vec::new();
        for name in names {
            match Encoding::named(name) {
                None => self.push("compress", Some(name), "must be \"zstd\", \"br\" or \"gzip\""),
                Some(encoding) if encodings.contains(&encoding) => self.push("compress", Some(name), "appears twice"),
                Some(encoding) => encodings.push(encoding),
            }
        }
        encodings
    }
}
