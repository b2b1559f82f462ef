//! A certificate with its private key.

mod authorities;
mod chain;
mod key;
mod pem;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};

pub use authorities::Authorities;
use chain::CertificateFacts;

/// Maximum size of a certificate or key file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Who presents a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The gateway as a server. The certificate must have names.
    Server,
    /// The gateway as a client of a service.
    Client,
}

/// A certificate with its private key, and the parsed data of both.
#[derive(Debug)]
pub struct Identity {
    /// The certificate chain and the private key.
    pub certified: Arc<CertifiedKey>,
    /// DNS names of the certificate, including wildcards, in lower case.
    pub names: Vec<String>,
    /// IP addresses of the certificate.
    pub addresses: Vec<IpAddr>,
    /// End of the validity, in seconds since 1970.
    pub not_after: i64,
    /// The parsed chain; `None` for a certificate that could not be parsed.
    chain: Vec<Option<CertificateFacts>>,
    /// Number of private keys in the key file, of which the first is used.
    keys_in_file: usize,
    purpose: Purpose,
}

/// Why a certificate cannot be used, by the file that has to be fixed. No message contains text of a file,
/// which may be a key.
#[derive(Debug, thiserror::Error)]
pub enum NotAnIdentity {
    /// The certificate chain.
    #[error("{0}")]
    Certificate(String),
    /// The private key, or a key that does not match the certificate.
    #[error("{0}")]
    PrivateKey(String),
}

impl Identity {
    /// Reads a PEM certificate chain, leaf first, and the PEM private key of the leaf.
    ///
    /// # Errors
    /// [`NotAnIdentity`], with the cause and how to fix it.
    pub fn read(certificate: &Path, private_key: &Path, purpose: Purpose) -> Result<Self, NotAnIdentity> {
        let chain = read_chain(certificate, purpose);
        let chain = chain.map_err(|reason| NotAnIdentity::Certificate(reason.into_owned()))?;
        let key = read_key(private_key).map_err(|reason| NotAnIdentity::PrivateKey(reason.into_owned()))?;
        Self::new(chain, key, purpose)
    }

    /// Parses a server's PEM file with its certificate chain, leaf first, and the private key of the leaf.
    ///
    /// # Errors
    /// As for [`Identity::read`].
    pub fn parse(pem: &[u8]) -> Result<Self, NotAnIdentity> {
        let chain = parse_chain(pem, Purpose::Server);
        let chain = chain.map_err(|reason| NotAnIdentity::Certificate(reason.into_owned()))?;
        let key = parse_key(pem).map_err(|reason| NotAnIdentity::PrivateKey(reason.into_owned()))?;
        Self::new(chain, key, Purpose::Server)
    }

    fn new(
        Chain { certificates, leaf, further }: Chain,
        (key, keys_in_file): (Arc<dyn SigningKey>, usize),
        purpose: Purpose,
    ) -> Result<Self, NotAnIdentity> {
        let certified = CertifiedKey::new(certificates, key);
        if certified.keys_match().is_err() {
            let public_key = certified.key.public_key();
            let is_of = |facts: &CertificateFacts| public_key.as_deref().is_some_and(|key| *key == *facts.public_key);
            return Err(match further.iter().flatten().any(is_of) {
                true if leaf.is_ca => NotAnIdentity::Certificate(CA_FIRST.to_owned()),
                true => NotAnIdentity::Certificate(LEAF_LATER.to_owned()),
                false if keys_in_file > 1 => NotAnIdentity::PrivateKey(FIRST_OF_SEVERAL.to_owned()),
                false => NotAnIdentity::PrivateKey(NO_MATCH.to_owned()),
            });
        }
        let (names, addresses, not_after) = (leaf.names.clone(), leaf.addresses.clone(), leaf.not_after);
        let chain = std::iter::once(Some(leaf)).chain(further).collect();
        Ok(Self { certified: Arc::new(certified), names, addresses, not_after, chain, keys_in_file, purpose })
    }

    /// Checks a PEM certificate chain without its private key.
    ///
    /// # Errors
    /// As for [`Identity::read`].
    pub fn check_certificate(certificate: &Path, purpose: Purpose) -> Result<(), NotAnIdentity> {
        read_chain(certificate, purpose).map(|_| ()).map_err(|reason| NotAnIdentity::Certificate(reason.into_owned()))
    }

    /// Checks a PEM private key without its certificate.
    ///
    /// # Errors
    /// As for [`Identity::read`].
    pub fn check_private_key(private_key: &Path) -> Result<(), NotAnIdentity> {
        read_key(private_key).map(|_| ()).map_err(|reason| NotAnIdentity::PrivateKey(reason.into_owned()))
    }

    /// Creates an identity without parsing the certificate.
    #[cfg(test)]
    pub(crate) fn of(certified: Arc<CertifiedKey>) -> Self {
        let (names, addresses, chain) = (Vec::new(), Vec::new(), Vec::new());
        Self { certified, names, addresses, not_after: 0, chain, keys_in_file: 1, purpose: Purpose::Server }
    }

    /// Start of the validity, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.chain.first().and_then(Option::as_ref).map_or(0, |leaf| leaf.not_before)
    }

    /// Warnings about the chain at `now` (seconds since 1970): validity, order, usage. The chain can be used,
    /// but its recipients may reject it.
    pub fn certificate_warnings(&self, now: i64) -> Vec<String> {
        chain::warnings(&self.chain, now, self.purpose)
    }

    /// A warning about the private key file, if any.
    pub fn key_warning(&self) -> Option<String> {
        let several = self.keys_in_file > 1;
        several.then(|| format!("the file holds {} private keys, of which the first alone is used", self.keys_in_file))
    }

    /// Returns whether `host` (in lower case, without a port) is covered by the certificate (RFC 9525, section
    /// 6.3: a wildcard matches exactly the leftmost label).
    pub fn covers(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // An address ends with a digit or has a colon; parsing each name would take longer than the comparison.
        let may_be_address = bare.bytes().next_back().is_some_and(|last| last.is_ascii_digit()) || bare.contains(':');
        if may_be_address && let Ok(address) = bare.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => name == host,
        })
    }

    /// The first DNS name, or the first IP address.
    pub fn first_name(&self) -> String {
        let name = self.names.first().cloned();
        name.or_else(|| self.addresses.first().map(IpAddr::to_string)).unwrap_or_default()
    }

    /// Returns whether the certificate has `host` itself, not just a matching wildcard.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.names.iter().any(|name| name == host)
    }
}

const CA_FIRST: &str = "the chain begins with the certificate of a CA: the leaf, which has the names of the host, must \
                        come first, and after each certificate the one of its issuer";
const NO_NAMES: &str = "the certificate has no subjectAltName, so no client could accept it: have one issued for the \
                        names of the host";
const LEAF_LATER: &str = "the private key belongs to a later certificate of the chain: that one, the leaf, must come \
                          first, and after each certificate the one of its issuer";
const NO_MATCH: &str =
    "the private key is not the key of the certificate: each certificate needs the key that it was issued for";
const FIRST_OF_SEVERAL: &str = "the file holds several private keys, and the first, which is used, is not the key of \
                                the certificate: keep the right one alone";

/// The certificates of a file.
struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    leaf: CertificateFacts,
    /// The certificates after the leaf; `None` for one that could not be parsed.
    further: Vec<Option<CertificateFacts>>,
}

fn read_chain(certificate: &Path, purpose: Purpose) -> Result<Chain, Cow<'static, str>> {
    parse_chain(&read_file(certificate)?, purpose)
}

fn parse_chain(bytes: &[u8], purpose: Purpose) -> Result<Chain, Cow<'static, str>> {
    let certificates = pem::certificates(bytes)?;
    let read = certificates.first().ok_or("is not in the file").and_then(CertificateFacts::read);
    let leaf = read.map_err(|reason| format!("the certificate {reason}"))?;
    let further: Vec<_> =
        certificates.iter().skip(1).map(|certificate| CertificateFacts::read(certificate).ok()).collect();
    if purpose == Purpose::Server && leaf.names.is_empty() && leaf.addresses.is_empty() {
        let begins_with_ca = leaf.is_ca && !further.is_empty();
        return Err(if begins_with_ca { CA_FIRST } else { NO_NAMES }.into());
    }
    Ok(Chain { certificates, leaf, further })
}

/// Returns the first private key of a file, and the number of keys in it.
fn read_key(private_key: &Path) -> Result<(Arc<dyn SigningKey>, usize), Cow<'static, str>> {
    parse_key(&read_file(private_key)?)
}

fn parse_key(bytes: &[u8]) -> Result<(Arc<dyn SigningKey>, usize), Cow<'static, str>> {
    let (key, keys_in_file) = pem::private_key(bytes)?;
    Ok((key::signing_key(&key)?, keys_in_file))
}

/// Reads a file of limited size.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {MAX_FILE_BYTES} bytes, which no chain and no key is"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
