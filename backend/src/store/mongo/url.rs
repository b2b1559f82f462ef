//! The URL of a MongoDB deployment.

use std::fmt;

use mongodb::options::ServerAddress;
use mongodb::{Client, error};

use super::uri::{self, CheckedUri};
use super::{Settings, StoreError};

/// A MongoDB URL: it can be used, but is shown without its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoUrl {
    full: String,
    /// The options that the driver does not have, and which are left out.
    unsupported: Vec<String>,
    /// The scheme, the hosts and the database: what may be shown.
    shown: String,
    database: String,
}

impl MongoUrl {
    /// Checks `text` with the driver. `shown` is its part without user, password and options.
    ///
    /// # Errors
    /// The driver's reason, without any secret of the URL.
    pub(in crate::store) fn new(text: &str, shown: String, database: &str) -> Result<Self, String> {
        let CheckedUri { text, unsupported } = uri::accept(text)?;
        Ok(Self { full: text, unsupported, shown, database: database.to_owned() })
    }

    /// The whole text, for the driver alone.
    pub(in crate::store) fn expose(&self) -> &str {
        &self.full
    }

    /// Options of the URI specification that it has and the driver does not: they have no effect.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// The database that it names, or `holoduledb`.
    pub fn database(&self) -> &str {
        &self.database
    }
}

impl fmt::Display for MongoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for MongoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Refuses what opening the store would refuse before it contacts a server: files of
/// certificates that cannot be read, sizes of the pool that contradict each other.
pub(in crate::store) fn check(url: &MongoUrl, settings: &Settings) -> Result<(), StoreError> {
    let options = uri::unresolved(url.expose()).map(|options| super::adjust(options, settings));
    let client = options.and_then(|mut options| {
        // The driver connects at once, and this check is to contact nothing.
        options.hosts = vec![ServerAddress::Unix { path: "/nonexistent/mongodb.sock".into() }];
        Client::with_options(options)
    });
    client.map(drop).map_err(|error| refused(url, &error))
}

/// What the driver refuses, with its reason.
pub(super) fn refused(url: &MongoUrl, error: &error::Error) -> StoreError {
    let reason = uri::reason(url.expose(), error);
    StoreError::Unusable(match error.kind.as_ref() {
        error::ErrorKind::DnsResolve { .. } => format!("the hosts of {url} cannot be resolved: {reason}"),
        _ => format!("the driver refuses the URL of {url}: {reason}"),
    })
}
