//! A certificate with its key, and the hosts it speaks for.

mod chain;
mod key;
mod pem;

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use chain::Facts;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

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
    /// The whole chain; `None` for a certificate that cannot be read.
    chain: Vec<Option<Facts>>,
    /// The private keys in the file of the key, of which the first is used.
    keys_in_file: usize,
}

/// Why a certificate cannot be used, by the file that is at fault. No message contains text of a
/// file, which may be a key.
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
    /// [`NotAnIdentity`], with the cause and what to do about it.
    pub fn read(certificate: &Path, private_key: &Path) -> Result<Self, NotAnIdentity> {
        let wrong = |reason: &str| NotAnIdentity::Certificate(reason.to_owned());
        let certificates = read_file(certificate).map_err(NotAnIdentity::Certificate)?;
        let certificates = pem::certificates(&certificates).map_err(wrong)?;
        let read = certificates.first().ok_or("there is no certificate in the file").and_then(Facts::read);
        let leaf = read.map_err(|reason| NotAnIdentity::Certificate(format!("the certificate {reason}")))?;
        let further = certificates.iter().skip(1).map(|certificate| Facts::read(certificate).ok());
        let further: Vec<_> = further.collect();
        if leaf.names.is_empty() && leaf.addresses.is_empty() {
            let begins_with_ca = leaf.is_ca && !further.is_empty();
            return Err(wrong(if begins_with_ca { CA_FIRST } else { NO_NAMES }));
        }
        let wrong_key = |reason: &str| NotAnIdentity::PrivateKey(reason.to_owned());
        let key = read_file(private_key).map_err(NotAnIdentity::PrivateKey)?;
        let (key, keys_in_file) = pem::private_key(&key).map_err(wrong_key)?;
        let key = key::signing_key(&key).map_err(NotAnIdentity::PrivateKey)?;
        let certified = CertifiedKey::new(certificates, key);
        if certified.keys_match().is_err() {
            let public_key = certified.key.public_key();
            let is_of = |facts: &Facts| public_key.as_deref().is_some_and(|key| *key == *facts.public_key);
            return Err(match further.iter().flatten().any(is_of) {
                true if leaf.is_ca => wrong(CA_FIRST),
                true => wrong(LEAF_LATER),
                false if keys_in_file > 1 => wrong_key(FIRST_OF_SEVERAL),
                false => wrong_key(NO_MATCH),
            });
        }
        let (names, addresses, not_after) = (leaf.names.clone(), leaf.addresses.clone(), leaf.not_after);
        let chain = std::iter::once(Some(leaf)).chain(further).collect();
        Ok(Self { certified: Arc::new(certified), names, addresses, not_after, chain, keys_in_file })
    }

    /// Of a certificate of which nothing is read.
    #[cfg(test)]
    pub(super) fn of(certified: Arc<CertifiedKey>) -> Self {
        let (names, addresses, chain) = (Vec::new(), Vec::new(), Vec::new());
        Self { certified, names, addresses, not_after: 0, chain, keys_in_file: 1 }
    }

    /// What is doubtful at `now` (seconds since 1970) about the chain: times, order, usage. Clients
    /// may refuse it, but it can be served.
    pub fn doubts_about_certificate(&self, now: i64) -> Vec<String> {
        chain::doubts(&self.chain, now)
    }

    /// What is doubtful about the file of the private key.
    pub fn doubt_about_key(&self) -> Option<String> {
        let several = self.keys_in_file > 1;
        several.then(|| format!("the file holds {} private keys, of which the first alone is used", self.keys_in_file))
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

/// The content of a file of bounded size.
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
