//! Settings of the ACME client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::ClientSide;

/// The production directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How a CA validates a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A file at the redirect listener (RFC 8555, section 8.3).
    Http01,
    /// A certificate at the public listener (RFC 8737).
    TlsAlpn01,
}

/// Settings of the ACME client. The operator has accepted the terms of the CA.
#[derive(Clone)]
pub struct Settings {
    /// The DNS names of each certificate, in lower case; at least one certificate with at least one name.
    pub certificates: Vec<Vec<String>>,
    /// The contact of the account, if any.
    pub email: Option<String>,
    /// The URL of the directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// How the server of the directory is verified.
    pub tls: Arc<ClientSide>,
    /// The profile of the certificates, if any.
    pub profile: Option<String>,
    /// The external account to which a new account is bound, if any (RFC 8555, section 7.3.4).
    pub binding: Option<Binding>,
    /// The folder of the account, the certificates and the challenges, which several gateways may share.
    pub storage: PathBuf,
    /// The delay after the first failure.
    pub retry_delay: Duration,
    /// The challenges that the listeners can respond to, in the order in which they are tried.
    pub challenges: Vec<Challenge>,
}

/// An external account: its id, and its secret HMAC key.
#[derive(Clone)]
pub struct Binding {
    /// The id.
    pub id: String,
    /// The key, decoded.
    pub key: Vec<u8>,
}

impl Challenge {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}
