//! The certificates of the CAs that a service's certificate is verified against.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;

use super::chain::{CertificateFacts, date};
use super::{pem, read_file};

/// The trusted CAs of a file.
#[derive(Debug)]
pub struct Authorities {
    pub(in crate::tls) roots: Arc<RootCertStore>,
    /// When each certificate expires, in seconds since 1970.
    expiries: Vec<i64>,
}

impl Authorities {
    /// Reads a PEM file with at least one certificate.
    ///
    /// # Errors
    /// Why it cannot be used and how to fix it, without any text of the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        let certificates = pem::certificates(&read_file(file)?)?;
        let (mut roots, mut expiries) = (RootCertStore::empty(), Vec::new());
        for (place, certificate) in certificates.into_iter().enumerate() {
            let number = place + 1;
            let facts = CertificateFacts::read(&certificate);
            let facts = facts.map_err(|reason| format!("certificate {number} of the file {reason}"))?;
            expiries.push(facts.not_after);
            roots.add(certificate).map_err(|_| format!("certificate {number} of the file cannot be that of a CA"))?;
        }
        Ok(Self { roots: Arc::new(roots), expiries })
    }

    /// Warnings about the certificates at `now` (seconds since 1970). The validity of a CA is not part of the
    /// verification (RFC 5280, section 6.1.1).
    pub fn warnings(&self, now: i64) -> Vec<String> {
        let expired = self.expiries.iter().enumerate().filter(|(_, expiry)| **expiry < now);
        let warning = |(place, expiry): (usize, &i64)| {
            format!("certificate {} of the file expired on {}, and is trusted nevertheless", place + 1, date(*expiry))
        };
        expired.map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    fn read(text: &str) -> Result<Authorities, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, text).unwrap();
        Authorities::read(&file)
    }

    fn certificate(expiry: i64) -> String {
        let mut params = CertificateParams::default();
        params.not_after = OffsetDateTime::from_unix_timestamp(expiry).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn every_certificate_is_trusted_and_an_expired_one_is_reported() {
        let both = [certificate(2_000_000_000), certificate(1_700_000_000)].concat();
        let authorities = read(&both).unwrap();
        assert_eq!(authorities.roots.len(), 2);
        assert!(authorities.warnings(1_600_000_000).is_empty());
        let expected = "certificate 2 of the file expired on 2023-11-14T22:13:20Z, and is trusted nevertheless";
        assert_eq!(authorities.warnings(1_800_000_000), [expected]);
    }

    #[test]
    fn a_file_without_a_usable_certificate_is_an_error_without_its_text() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        assert!(read(&key).unwrap_err().contains("private key and no certificate"));
        assert_eq!(read("").unwrap_err(), "the file is empty");
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = read(&[&certificate(2_000_000_000), damaged].concat()).unwrap_err();
        assert_eq!(error, "certificate 2 of the file is not an X.509 certificate: it is damaged");
        assert!(Authorities::read(Path::new("/nowhere")).unwrap_err().starts_with("the file cannot be read: "));
    }
}
