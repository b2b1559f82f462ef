//! TLS versions 1.2 and 1.3 with ephemeral key exchange and authenticated encryption only (RFC 9325), and the
//! certificates.

mod challenge;
mod client;
mod identities;
mod identity;

pub(crate) use challenge::ALPN as CHALLENGE_PROTOCOL;
pub use challenge::Challenges;
pub use client::ClientSide;
pub use identities::{Identities, Prepared};
pub use identity::{Authorities, Identity, NotAnIdentity, Purpose};

/// The supported TLS versions.
pub const VERSIONS: [&str; 2] = ["1.2", "1.3"];
