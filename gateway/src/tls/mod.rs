//! Certificates and the TLS that is spoken with them: versions 1.2 and 1.3, with ephemeral key exchange and
//! authenticated encryption only (RFC 9325).

mod identities;
mod identity;

pub use identities::Identities;
pub use identity::{Identity, NotAnIdentity};

/// The TLS versions that are accepted.
pub const VERSIONS: [&str; 2] = ["1.2", "1.3"];
