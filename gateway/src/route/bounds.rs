//! What a route accepts of a request besides its head.

use std::time::Duration;

use crate::client::Networks;
use crate::limit::Quota;

/// The bounds of the requests of a route. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum length of a request body, in bytes.
    pub max_body_bytes: Option<u64>,
    /// The timeouts of its service.
    pub timeouts: Timeouts,
    /// The networks of its clients.
    pub networks: Networks,
    /// The limit on the requests of one client.
    pub limit: Option<Limit>,
}

/// A limit on the requests of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate and the burst.
    pub quota: Quota,
    /// What counts as one client.
    pub by: LimitBy,
}

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitBy {
    /// An IPv4 address or an IPv6 /64.
    Address,
    /// An identity.
    Identity,
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
