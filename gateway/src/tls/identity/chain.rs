//! Parsed certificates of a chain, and warnings about them.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Purpose;

/// Remaining validity below which a renewal is recommended, in seconds.
const SOON: i64 = 14 * 24 * 60 * 60;

/// The relevant fields of one certificate.
#[derive(Debug)]
pub(super) struct CertificateFacts {
    /// DNS names, including wildcards, in lower case.
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    /// Whether it is a CA (RFC 5280, section 4.2.1.9).
    pub(super) is_ca: bool,
    /// Whether its extended key usage allows a TLS server (RFC 5280, section 4.2.1.12).
    is_for_servers: bool,
    /// Whether its extended key usage allows a TLS client.
    is_for_clients: bool,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    /// SubjectPublicKeyInfo in DER.
    pub(super) public_key: Vec<u8>,
}

impl CertificateFacts {
    /// Parses one certificate.
    ///
    /// # Errors
    /// Why it cannot be used, without any of its text.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| "is not an X.509 certificate: it is damaged")?;
        let mut names = Vec::new();
        let mut addresses = Vec::new();
        let alternative =
            certificate.subject_alternative_name().map_err(|_| "has a subjectAltName that cannot be read")?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
                }
                _ => {}
            }
        }
        // Clients do not accept a key usage that cannot be parsed.
        let (is_for_servers, is_for_clients) = match certificate.extended_key_usage() {
            Ok(None) => (true, true),
            Ok(Some(usage)) => (usage.value.server_auth || usage.value.any, usage.value.client_auth || usage.value.any),
            Err(_) => (false, false),
        };
        Ok(Self {
            names,
            addresses,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: certificate.is_ca(),
            is_for_servers,
            is_for_clients,
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// Returns warnings about `chain`, leaf first, at `now` (seconds since 1970). A certificate that could not be
/// parsed is `None`.
pub(super) fn warnings(chain: &[Option<CertificateFacts>], now: i64, purpose: Purpose) -> Vec<String> {
    let peers = match purpose {
        Purpose::Server => "clients",
        Purpose::Client => "services",
    };
    let mut warnings = Vec::new();
    for (place, facts) in chain.iter().enumerate() {
        let name = match place {
            0 => "the certificate".to_owned(),
            place => format!("certificate {} of the chain", place + 1),
        };
        match facts {
            Some(facts) => warnings.extend(validity_warning(&name, facts, now, peers)),
            None => warnings.push(format!("{name} cannot be read: the file is damaged")),
        }
    }
    if let Some(Some(leaf)) = chain.first() {
        if leaf.is_ca && purpose == Purpose::Server {
            warnings.push(
                "the first certificate is a CA's, which many clients refuse as a server's: use one that the CA issued"
                    .to_owned(),
            );
        }
        if !leaf.is_for_servers && purpose == Purpose::Server {
            warnings.push(
                "the extended key usage of the certificate is without serverAuth, so clients refuse it: have it issued \
                 for a TLS server"
                    .to_owned(),
            );
        }
        if !leaf.is_for_clients && purpose == Purpose::Client {
            warnings.push(
                "the extended key usage of the certificate is without clientAuth, so services refuse it: have it issued \
                 for a TLS client"
                    .to_owned(),
            );
        }
    }
    for (place, pair) in chain.windows(2).enumerate() {
        if let [Some(issued), Some(issuer)] = pair
            && issued.issuer != issuer.subject
        {
            warnings.push(format!(
                "the chain is out of order or has a gap: certificate {} was not issued by certificate {}; the leaf \
                 comes first, and after each certificate the one of its issuer",
                place + 1,
                place + 2
            ));
        }
    }
    warnings
}

fn validity_warning(name: &str, facts: &CertificateFacts, now: i64, peers: &str) -> Option<String> {
    if now > facts.not_after {
        return Some(format!("{name} expired on {}, so {peers} refuse it: renew it", date(facts.not_after)));
    }
    if now < facts.not_before {
        return Some(format!(
            "{name} is not valid before {}, so {peers} refuse it until then: check it and the clock of this machine",
            date(facts.not_before)
        ));
    }
    (facts.not_after - now < SOON)
        .then(|| format!("{name} expires on {}, in less than 14 days: renew it", date(facts.not_after)))
}

/// Formats a date (RFC 3339).
pub(super) fn date(seconds: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|date| date.format(&Rfc3339).ok());
    date.unwrap_or_else(|| format!("second {seconds} since 1970"))
}
