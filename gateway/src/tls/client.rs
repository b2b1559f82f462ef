//! The gateway as a TLS client of a service: which CAs it trusts, and which certificate it presents.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;

use super::identity::{Authorities, Identity};

/// The TLS configuration for connections to one service. Verification cannot be disabled.
#[derive(Debug)]
pub struct ClientSide {
    pub(crate) config: Arc<ClientConfig>,
    authorities: Authorities,
    identity: Option<Identity>,
}

impl ClientSide {
    /// A client that trusts `authorities` alone, presents `identity` to a service that requests a certificate, and
    /// offers `protocol` (RFC 7301).
    ///
    /// # Errors
    /// The TLS library.
    pub fn new(authorities: Authorities, identity: Option<Identity>, protocol: &str) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(Arc::clone(&authorities.roots));
        let mut config = match &identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let resolver = SingleCertAndKey::from(Arc::clone(&identity.certified));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        // A resumed session would not be verified again: an expired certificate would be accepted. Connections are
        // reused, so handshakes are rare.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), authorities, identity })
    }

    /// Warnings at `now` (seconds since 1970): about the file of the CAs, the certificate, and its private key.
    pub fn warnings(&self, now: i64) -> [Vec<String>; 3] {
        let identity = self.identity.as_ref();
        [
            self.authorities.warnings(now),
            identity.map(|identity| identity.certificate_warnings(now)).unwrap_or_default(),
            identity.and_then(Identity::key_warning).into_iter().collect(),
        ]
    }
}
