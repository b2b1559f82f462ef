//! Limits of a route on its requests: body size, timeouts, networks and rate.

use std::time::Duration;

use crate::client::Networks;
use crate::limit::Quota;

/// The limits of a route on its requests. There are none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum length of a request body, in bytes.
    pub max_body_bytes: Option<u64>,
    /// The timeouts that replace those of its service.
    pub timeouts: Timeouts,
    /// The networks that its clients must be in.
    pub networks: Networks,
    /// The rate limit.
    pub limit: Option<Limit>,
}

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate and the burst.
    pub quota: Quota,
    /// What has a bucket of its own.
    pub by: LimitBy,
    /// The query parameter that a request must have to count; `None` if all do.
    pub query: Option<String>,
}

/// What has a bucket of its own in a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitBy {
    /// An IPv4 address or an IPv6 /64.
    Address,
    /// An identity.
    Identity,
    /// A path, for all addresses together. A successful request does not count for its address.
    Path,
}

impl Limit {
    /// Whether the limit applies to a request for `target`. Percent-encoded names of parameters are decoded, as by the
    /// service.
    pub fn counts(&self, target: &str) -> bool {
        let Some(wanted) = &self.query else { return true };
        let query = target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            decoded(name).eq(wanted.bytes())
        })
    }
}

/// The decoded bytes of a name in a query. `+` is a space. An invalid escape is literal.
fn decoded(name: &str) -> impl Iterator<Item = u8> {
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = name.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        let mut ahead = bytes.clone();
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes = ahead;
                Some(high << 4 | low)
            }
            (b'+', ..) => Some(b' '),
            _ => Some(byte),
        }
    })
}

/// Timeouts that differ from those of the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a new connection, including the wait for one.
    pub connect: Option<Duration>,
    /// For the whole head of the response.
    pub first_byte: Option<Duration>,
    /// For each read of the response body and each write of the request body.
    pub idle: Option<Duration>,
    /// For the whole response; zero for none.
    pub total: Option<Duration>,
}

impl Bounds {
    /// Whether a body whose head declares `length` bytes is too large.
    pub fn excludes(&self, length: u64) -> bool {
        self.max_body_bytes.is_some_and(|limit| length > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_requests_with_its_parameter_however_it_is_encoded() {
        let quota = Quota { rate: 1, burst: 1 };
        let limit = |query: Option<&str>| Limit { quota, by: LimitBy::Address, query: query.map(str::to_owned) };
        assert!(limit(None).counts("/a") && limit(None).counts("/a?b=c"));
        for target in ["/a?q=x", "/a?b=c&q=x", "/a?q=", "/a?q", "/a?%71=x", "/a?b&%71", "/a?q=1&q=2", "/a?q=%zz"] {
            assert!(limit(Some("q")).counts(target), "{target}");
        }
        for target in
            ["/a", "/q", "/a?", "/a?Q=x", "/a?qq=x", "/a?b=q", "/a?%2571=x", "/a?+q=x", "/a?%7=1", "/a?q%=1", "/q=1"]
        {
            assert!(!limit(Some("q")).counts(target), "{target}");
        }
        assert!(limit(Some("a b")).counts("/?a+b=1") && limit(Some("%7")).counts("/?%7=1"));
    }
}
