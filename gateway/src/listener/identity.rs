//! A certificate with its key, and the hosts it speaks for.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate with its key, and what we read from it.
#[derive(Debug)]
pub struct Identity {
    /// The chain and the key.
    pub certified: Arc<CertifiedKey>,
    /// The names in it, in lower case: DNS names, wildcards among them.
    pub names: Vec<String>,
    /// The addresses in it.
    pub addresses: Vec<IpAddr>,
    /// When it stops being valid, in seconds since 1970.
    pub not_after: i64,
}

/// Why a certificate cannot be used, by the file that has to be mended.
#[derive(Debug, thiserror::Error)]
pub enum NotAnIdentity {
    /// The chain.
    #[error("{0}")]
    Certificate(String),
    /// The key, or that it is another certificate's.
    #[error("{0}")]
    PrivateKey(String),
}

impl Identity {
    /// Reads a PEM chain, the leaf first, and the PEM key of the leaf.
    ///
    /// # Errors
    /// [`NotAnIdentity`], with the path and without any of the key.
    pub fn read(certificate: &Path, private_key: &Path) -> Result<Self, NotAnIdentity> {
        let wrong = |reason: String| NotAnIdentity::Certificate(format!("{}: {reason}", certificate.display()));
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| wrong("no certificate in it".to_owned()))?;
        let (names, addresses, not_after) = read_leaf(leaf).map_err(wrong)?;
        let wrong_key = |reason: String| NotAnIdentity::PrivateKey(format!("{}: {reason}", private_key.display()));
        let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| wrong_key(error.to_string()))?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| wrong_key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| wrong_key("is not the key of the certificate".to_owned()))?;
        Ok(Self { certified: Arc::new(certified), names, addresses, not_after })
    }

    /// Whether `host` (in lower case, without a port) is a name of the certificate
    /// (RFC 9525, section 6.3: a wildcard takes exactly the leftmost label).
    pub fn covers(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => name == host,
        })
    }

    /// What people call it: its first name, or its first address.
    pub fn first_name(&self) -> String {
        let name = self.names.first().cloned();
        name.or_else(|| self.addresses.first().map(IpAddr::to_string)).unwrap_or_default()
    }

    /// Whether `host` stands in the certificate itself, and not under a wildcard.
    pub(super) fn names(&self, host: &str) -> bool {
        self.names.iter().any(|name| name == host)
    }
}

fn read_leaf(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, Vec<IpAddr>, i64), String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    let alternative = leaf.subject_alternative_name().map_err(|error| error.to_string())?;
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
    if names.is_empty() && addresses.is_empty() {
        return Err("the certificate has no subjectAltName, so no client could accept it".to_owned());
    }
    Ok((names, addresses, leaf.validity().not_after.timestamp()))
}
