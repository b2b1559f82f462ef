//! tls-alpn-01 challenges (RFC 8737): a self-signed certificate that proves the control of a name to a CA.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// The protocol of validations (RFC 8737, section 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// The pending challenges.
pub trait Challenges: Send + Sync {
    /// The SHA-256 digest of the key authorization for the name `name`, in lower case; `None` without a pending
    /// challenge.
    fn digest(&self, name: &str) -> Option<[u8; 32]>;
}

/// The configuration that presents the certificate of the challenge and only accepts [`ALPN`]; `None` if the
/// certificate cannot be created.
pub(super) fn server_config(name: &str, digest: &[u8; 32]) -> Option<Arc<ServerConfig>> {
    let key = KeyPair::generate().ok()?;
    let certificate = certificate(name, digest, &key)?;
    let key = aws_lc_rs::sign::any_ecdsa_type(&PrivateKeyDer::try_from(key.serialize_der()).ok()?).ok()?;
    // rustls would refuse a certificate with an unknown critical extension if it parsed it.
    let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The connection is closed after the handshake.
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

/// A self-signed certificate with the critical extension acmeIdentifier (RFC 8737, section 3).
fn certificate(name: &str, digest: &[u8; 32], key: &KeyPair) -> Option<CertificateDer<'static>> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    Some(params.self_signed(key).ok()?.der().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_has_the_name_and_the_digest_in_a_critical_extension() {
        let certificate = certificate("www.example.org", &[7; 32], &KeyPair::generate().unwrap()).unwrap();
        // id-pe-acmeIdentifier, critical, an OCTET STRING in an OCTET STRING.
        let extension = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff\x04\x22\x04\x20";
        let extension = [extension.as_slice(), &[7; 32]].concat();
        for expected in [extension.as_slice(), b"www.example.org"] {
            assert!(certificate.windows(expected.len()).any(|part| part == expected));
        }
        let config = server_config("www.example.org", &[7; 32]).unwrap();
        assert_eq!((config.alpn_protocols.as_slice(), config.max_early_data_size), ([ALPN.to_vec()].as_slice(), 0));
        assert!(server_config("not a name \u{e4}", &[7; 32]).is_none());
    }
}
