//! What path a request is forwarded with: that of the route, without a prefix of it, or another with its names.

use std::borrow::Cow;

use http::HeaderValue;

use super::Pattern;
use crate::framing::CanonicalPath;

/// How the path that a route matches is changed before it is forwarded.
#[derive(Clone, Debug, Default)]
pub(super) enum Forwarding {
    #[default]
    Unchanged,
    /// Without this prefix, which consists of literal segments of the route's path.
    Strip {
        prefix: String,
        /// The value of `X-Forwarded-Prefix`.
        header: HeaderValue,
    },
    Rewrite(Template),
}

/// A path with names of the route's path.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pattern: Pattern,
    /// For each name of the template, its position among the names of the route's path.
    positions: Vec<usize>,
    /// The literal beginnings of the template and of the route's path, if they differ in nothing else.
    prefixes: Option<(String, String)>,
}

impl Forwarding {
    /// Without the literal `prefix` of `path`.
    ///
    /// # Errors
    /// What is invalid.
    pub(super) fn strip(prefix: &str, path: &Pattern) -> Result<Self, &'static str> {
        const INVALID: &str =
            "must be one or more of the first segments of path, all literal, without a trailing slash";
        let is_prefix = !prefix.ends_with('/') && CanonicalPath::parse(prefix).is_ok() && path.begins_with(prefix);
        let header = HeaderValue::from_str(prefix).ok().filter(|_| is_prefix).ok_or(INVALID)?;
        Ok(Self::Strip { prefix: prefix.to_owned(), header })
    }

    /// The path of `template`, a pattern, with names of `path`.
    ///
    /// # Errors
    /// What is invalid.
    pub(super) fn rewrite(template: Pattern, path: &Pattern) -> Result<Self, &'static str> {
        let position = |name| path.names().position(|other| other == name);
        let positions = template.names().map(position).collect::<Option<_>>();
        let positions = positions.ok_or("has a name that path does not have")?;
        let prefixes = template.prefixes(path);
        Ok(Self::Rewrite(Template { pattern: template, positions, prefixes }))
    }

    /// The path that a `path` is forwarded with which matches `alias`, or the route's path `own` if that is `None`.
    /// `None` if it would not be canonical, which is refused rather than forwarded.
    pub(super) fn apply<'a>(
        &self,
        own: &Pattern,
        alias: Option<&Pattern>,
        path: &CanonicalPath<'a>,
    ) -> Option<Cow<'a, str>> {
        let as_own = || match alias {
            None => Cow::Borrowed(path.as_str()),
            Some(alias) => Cow::Owned(own.fill(&alias.bindings(path))),
        };
        let changed = match self {
            Self::Unchanged => return Some(as_own()),
            Self::Strip { prefix, .. } => without(as_own(), prefix)?,
            Self::Rewrite(Template { pattern, positions, .. }) => {
                let bindings = alias.unwrap_or(own).bindings(path);
                let values = positions.iter().map(|&position| bindings.get(position).copied());
                Cow::Owned(pattern.fill(&values.collect::<Option<Vec<_>>>()?))
            }
        };
        let parse = if path.preserved().is_none() { CanonicalPath::parse } else { CanonicalPath::parse_preserving };
        parse(&changed).is_ok().then_some(changed)
    }

    /// The prefix of forwarded paths, and that of the route's path in its place, if they differ in nothing else.
    pub(super) fn prefixes(&self) -> Option<(&str, &str)> {
        match self {
            Self::Unchanged => None,
            Self::Strip { prefix, .. } => Some(("", prefix)),
            Self::Rewrite(Template { prefixes, .. }) => {
                prefixes.as_ref().map(|(own, public)| (own.as_str(), public.as_str()))
            }
        }
    }

    /// The value of `X-Forwarded-Prefix`, if a prefix is removed.
    pub(super) fn prefix(&self) -> Option<&HeaderValue> {
        match self {
            Self::Strip { header, .. } => Some(header),
            Self::Unchanged | Self::Rewrite(_) => None,
        }
    }
}

/// `path` without `prefix`; a slash if nothing is left.
fn without<'a>(path: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    let rest = match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_prefix(prefix)?),
        Cow::Owned(path) => Cow::Owned(path.strip_prefix(prefix)?.to_owned()),
    };
    match rest.as_bytes().first() {
        None => Some(Cow::Borrowed("/")),
        Some(b'/') => Some(rest),
        Some(_) => None,
    }
}
