//! The URL that selects the engine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::mongo::MongoUrl;

/// The default database.
const DEFAULT_DATABASE: &str = "holoduledb";

/// The engine and its address: `mongodb://…` or `mongodb+srv://…` (MongoDB's connection string specification), or
/// `embedded:PATH` for a file.
///
/// `Debug` and `Display` never show the user or the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// MongoDB.
    Mongo(MongoUrl),
    /// The embedded engine with its file.
    Embedded(PathBuf),
}

/// The text is not a store URL. It is not repeated, because it may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAStoreUrl {
    /// Another scheme, or none.
    #[error("must begin with mongodb://, mongodb+srv:// or embedded:")]
    Scheme,
    /// `embedded:` without a path.
    #[error("embedded: must be followed by the path of a file")]
    NoPath,
    /// A MongoDB URL without a host.
    #[error("has no host")]
    NoHost,
    /// The driver rejects the MongoDB URL, with its reason without secrets.
    #[error("is rejected by the MongoDB driver: {0}")]
    Refused(String),
    /// A MongoDB URL with an invalid host.
    #[error(
        "has an invalid host: it must be HOST or HOST:PORT, or several separated by commas; is an @ missing before it, or a \
         character of the password not percent-encoded?"
    )]
    Host,
}

impl StoreUrl {
    /// The URL of the database `holoduledb` on `host`, optionally with a port, for a user of that database, as built by
    /// the original from its environment. `user` and `password` may contain any character.
    ///
    /// # Errors
    /// [`NotAStoreUrl::NoHost`].
    pub fn mongodb(user: &str, password: &str, host: &str) -> Result<Self, NotAStoreUrl> {
        let (user, password) = (percent_encode(user), percent_encode(password));
        format!("mongodb://{user}:{password}@{host}/{DEFAULT_DATABASE}").parse()
    }

    /// Whether only one process can have the store open.
    pub fn is_exclusive(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }
}

impl FromStr for StoreUrl {
    type Err = NotAStoreUrl;

    fn from_str(text: &str) -> Result<Self, NotAStoreUrl> {
        if let Some(path) = text.strip_prefix("embedded:") {
            if path.is_empty() {
                return Err(NotAStoreUrl::NoPath);
            }
            return Ok(Self::Embedded(PathBuf::from(path)));
        }
        let scheme = ["mongodb://", "mongodb+srv://"].into_iter().find(|scheme| text.starts_with(scheme));
        let (scheme, rest) =
            scheme.and_then(|scheme| Some((scheme, text.strip_prefix(scheme)?))).ok_or(NotAStoreUrl::Scheme)?;
        let before_options = rest.split_once('?').map_or(rest, |(before, _)| before);
        let place = before_options.rsplit_once('@').map_or(before_options, |(_, place)| place);
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        if hosts.is_empty() {
            return Err(NotAStoreUrl::NoHost);
        }
        if !hosts.split(',').all(is_host) {
            return Err(NotAStoreUrl::Host);
        }
        let database = if database.is_empty() { DEFAULT_DATABASE } else { database };
        // The driver accepts a URL only if it finds the same parts.
        let shown = format!("{scheme}{hosts}/{database}");
        MongoUrl::new(text, shown, database).map(Self::Mongo).map_err(NotAStoreUrl::Refused)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mongo(url) => url.fmt(f),
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
        }
    }
}

/// Whether `text` is a host, optionally with a port, or the percent-encoded path of a Unix socket. Anything else may be
/// part of a password, which the driver's errors would repeat.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest.strip_prefix(':')),
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_socket = name.ends_with(".sock") && name.bytes().all(|byte| is_plain(byte) || byte == b'%');
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !name.is_empty() && (name.bytes().all(is_plain) || is_socket) && is_port
}

/// Encodes everything but the unreserved characters of RFC 3986, section 2.3.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_its_scheme() {
        assert_eq!("embedded:/var/lib/x.redb".parse(), Ok(StoreUrl::Embedded("/var/lib/x.redb".into())));
        assert_eq!("embedded:x.redb".parse::<StoreUrl>().unwrap().to_string(), "embedded:x.redb");
        for (text, database) in [
            ("mongodb://h", "holoduledb"),
            ("mongodb://h:27017,i:27018/", "holoduledb"),
            ("mongodb://h/other?replicaSet=rs", "other"),
            ("mongodb://h/other?appName=a@b/c", "other"),
            ("mongodb+srv://h?tls=true", "holoduledb"),
            ("mongodb://[::1]:27017,[2001:db8::1]/other", "other"),
            ("mongodb://%2Frun%2Fmongodb-27017.sock/other", "other"),
        ] {
            let StoreUrl::Mongo(url) = text.parse().unwrap() else { panic!("{text}") };
            assert_eq!((url.database(), url.expose()), (database, text));
        }
        for (text, why) in [
            ("", NotAStoreUrl::Scheme),
            ("postgres://h", NotAStoreUrl::Scheme),
            ("embedded:", NotAStoreUrl::NoPath),
            ("mongodb://", NotAStoreUrl::NoHost),
            ("mongodb://u:p@/db", NotAStoreUrl::NoHost),
            ("mongodb://u:pass/db", NotAStoreUrl::Host),
            ("mongodb://u:p%40ss%40h:27017/db", NotAStoreUrl::Host),
            ("mongodb://h:0", NotAStoreUrl::Host),
            ("mongodb://h,/db", NotAStoreUrl::Host),
            ("mongodb://[::g]/db", NotAStoreUrl::Host),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(why), "{text}");
        }
    }

    #[test]
    fn the_shown_url_has_no_password() {
        for text in
            ["mongodb://usr:s3cret@h:1/db", "mongodb://usr:s3cret@h:1/db?appName=a@b", "mongodb+srv://usr:s3cret@h"]
        {
            let url: StoreUrl = text.parse().unwrap();
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("usr"), "{shown}");
        }
    }

    #[test]
    fn a_url_is_built_from_the_originals_variables() {
        let StoreUrl::Mongo(url) = StoreUrl::mongodb("us/er", "p@ss:w%rd", "db:27017").unwrap() else { panic!() };
        assert_eq!(url.expose(), "mongodb://us%2Fer:p%40ss%3Aw%25rd@db:27017/holoduledb");
        assert_eq!(url.to_string(), "mongodb://db:27017/holoduledb");
    }
}
