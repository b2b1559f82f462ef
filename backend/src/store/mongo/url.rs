//! The URL of a MongoDB deployment.

use std::fmt;

use mongodb::options::ServerAddress;
use mongodb::{Client, error};

use super::uri::{self, CheckedUri};
use super::{Settings, StoreError};

/// A MongoDB URL, shown without its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoUrl {
    full: String,
    /// The options that the driver does not support, and which are removed.
    unsupported: Vec<String>,
    /// The scheme, hosts and database, which may be shown.
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

    /// The complete text, for the driver.
    pub(in crate::store) fn expose(&self) -> &str {
        &self.full
    }

    /// Options in the URL that the driver does not support and that have no effect.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// The database, `holoduledb` by default.
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

/// Checks what opening the store checks before it contacts a server, such as unreadable certificate files and
/// contradictory pool sizes.
pub(in crate::store) fn check(url: &MongoUrl, settings: &Settings) -> Result<(), StoreError> {
    let options = uri::unresolved(url.expose()).map(|options| super::adjust(options, settings));
    let client = options.and_then(|mut options| {
        // The driver connects at once, but this check must contact no server.
        options.hosts = vec![ServerAddress::Unix { path: "/nonexistent/mongodb.sock".into() }];
        Client::with_options(options)
    });
    client.map(drop).map_err(|error| refused(url, &error))
}

/// The error of a URL that the driver rejects.
pub(super) fn refused(url: &MongoUrl, error: &error::Error) -> StoreError {
    let reason = uri::reason(url.expose(), error);
    StoreError::Unusable(match error.kind.as_ref() {
        error::ErrorKind::DnsResolve { .. } => format!("the hosts of {url} cannot be resolved: {reason}"),
        _ => format!("the driver rejects the URL of {url}: {reason}"),
    })
}
