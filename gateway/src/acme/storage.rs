//! The folder of the account, the certificates and the pending challenges. Several gateways may share it.
//!
//! A file is replaced atomically, and has mode 0600 since it holds a key. Only the gateway that holds the lock orders
//! certificates; the operating system releases the lock when its process ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use holodule_settings::Replacement;
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use super::error::AcmeError;
use super::settings::{Challenge, Settings};
use crate::tls::Challenges;

/// Maximum size of a file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The space that is required before an order, in bytes: more than a chain with its key.
const SPACE: usize = 64 * 1024;

/// The longest accepted token of a challenge. Those of Let's Encrypt have 43 characters.
const MAX_TOKEN: usize = 128;

/// The folder.
#[derive(Clone, Debug)]
pub struct Storage {
    folder: PathBuf,
    /// The names of all certificates: no other is looked up in a handshake.
    names: Vec<String>,
}

/// The exclusive right to order certificates, until it is dropped.
pub(super) struct Lock {
    _file: File,
}

/// Identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    inode: u64,
}

/// An account, as it is stored.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredAccount {
    pub(super) email: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// The failures since the last certificate. They are stored, so that neither a restart nor a further gateway repeats
/// attempts sooner: a CA has limits on them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Failures {
    pub(super) count: u32,
    /// When the next attempt is due, in seconds since 1970.
    pub(super) retry_at: i64,
}

impl Storage {
    /// The storage of `settings`, whose folders are created if necessary.
    ///
    /// # Errors
    /// The folders cannot be created or written to.
    pub fn open(settings: &Settings) -> Result<Self, AcmeError> {
        let folder = settings.storage.clone();
        let storage = Self { folder, names: settings.certificates.concat() };
        for below in ["accounts", "certificates", "challenges/http-01", "challenges/tls-alpn-01"] {
            let path = storage.folder.join(below);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| AcmeError::storage(&path, &error))?;
        }
        storage.lock_file().map_err(|error| AcmeError::storage(&storage.folder.join(LOCK), &error))?;
        Ok(storage)
    }

    /// The folder of the http-01 challenges: files by their token.
    pub fn http_challenges(&self) -> PathBuf {
        self.folder.join("challenges").join(Challenge::Http01.name())
    }

    /// The lock; `None` if another gateway has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, AcmeError> {
        let about = |error| AcmeError::storage(&self.folder.join(LOCK), &error);
        let file = self.lock_file().map_err(about)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(about(error)),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        // Never replaced: a lock belongs to the file, not to its name.
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.folder.join(LOCK))
    }

    /// The version of the certificate `id`, if there is one.
    pub(super) fn stamp(&self, id: &str) -> Option<Stamp> {
        let metadata = fs::metadata(self.certificate(id)).ok()?;
        Some(Stamp { modified: metadata.modified().ok()?, inode: metadata.ino() })
    }

    /// The chain and the private key of the certificate `id`, in PEM.
    pub(super) fn read_certificate(&self, id: &str) -> Result<Vec<u8>, AcmeError> {
        let path = self.certificate(id);
        read(&path).map_err(|error| AcmeError::storage(&path, &error))
    }

    /// Checks that a certificate could be written: one that is issued and lost counts for the limits of the CA.
    pub(super) fn check_space(&self, _: &Lock) -> Result<(), AcmeError> {
        let path = self.folder.join("certificates").join("space");
        let written = write(&path, &[0; SPACE]);
        remove(&path);
        written
    }

    /// Replaces the certificate `id`, and forgets the failures to obtain it.
    pub(super) fn write_certificate(&self, id: &str, pem: &str, _: &Lock) -> Result<(), AcmeError> {
        write(&self.certificate(id), pem.as_bytes())?;
        remove(&self.failures(id));
        Ok(())
    }

    fn certificate(&self, id: &str) -> PathBuf {
        self.folder.join("certificates").join(format!("{id}.pem"))
    }

    /// The failures to obtain the certificate `id`. A damaged file counts as none.
    pub(super) fn read_failures(&self, id: &str) -> Failures {
        let text = read(&self.failures(id)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Stores the failures to obtain the certificate `id`.
    pub(super) fn write_failures(&self, id: &str, failures: Failures) -> Result<(), AcmeError> {
        let text = serde_json::to_vec(&failures).map_err(|error| AcmeError::Storage(error.to_string()))?;
        write(&self.failures(id), &text)
    }

    /// The file of the failures.
    pub(super) fn failures(&self, id: &str) -> PathBuf {
        self.folder.join("certificates").join(format!("{id}.failed.json"))
    }

    /// The account at `directory`; `None` if there is none.
    pub(super) fn read_account(&self, directory: &str) -> Result<Option<StoredAccount>, AcmeError> {
        let path = self.account(directory);
        match read(&path) {
            Ok(text) => {
                // The error would quote the file.
                let damaged =
                    |_| AcmeError::storage(&path, &io::Error::other("it is damaged: remove it for a new account"));
                serde_json::from_slice(&text).map(Some).map_err(damaged)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AcmeError::storage(&path, &error)),
        }
    }

    /// Replaces the account at `directory`.
    pub(super) fn write_account(&self, directory: &str, account: &StoredAccount, _: &Lock) -> Result<(), AcmeError> {
        let text = serde_json::to_vec(account).map_err(|_| AcmeError::Storage("the account has no text".to_owned()))?;
        write(&self.account(directory), &text)
    }

    fn account(&self, directory: &str) -> PathBuf {
        self.folder.join("accounts").join(format!("{}.json", short_hash(&[directory])))
    }

    /// Publishes a challenge for `name`, which ends when the guard is dropped.
    pub(super) fn publish(
        &self,
        challenge: Challenge,
        (name, token): (&str, &str),
        authorization: &str,
        _: &Lock,
    ) -> Result<Published, AcmeError> {
        let file = match challenge {
            Challenge::Http01 if is_token(token) => token,
            Challenge::Http01 => return Err(AcmeError::Connection("the token of a challenge is none".to_owned())),
            Challenge::TlsAlpn01 if self.has(name) => name,
            Challenge::TlsAlpn01 => return Err(AcmeError::Connection("a challenge is for another name".to_owned())),
        };
        let path = self.folder.join("challenges").join(challenge.name()).join(file);
        write(&path, authorization.as_bytes())?;
        Ok(Published(path))
    }

    /// Removes the challenges that a gateway could not remove before its end.
    pub(super) fn clear_challenges(&self, _: &Lock) {
        for challenge in [Challenge::Http01, Challenge::TlsAlpn01] {
            let Ok(files) = fs::read_dir(self.folder.join("challenges").join(challenge.name())) else { continue };
            for file in files.flatten() {
                remove(&file.path());
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

impl Challenges for Storage {
    fn digest(&self, name: &str) -> Option<[u8; 32]> {
        if !self.has(name) {
            return None;
        }
        let path = self.folder.join("challenges").join(Challenge::TlsAlpn01.name()).join(name);
        digest(&SHA256, &read(&path).ok()?).as_ref().try_into().ok()
    }
}

/// A published challenge.
pub(super) struct Published(PathBuf);

impl Drop for Published {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// The name of the lock.
const LOCK: &str = "lock";

/// The id of the certificate for `names` from `directory`, which is the beginning of its file's name. Another directory
/// or other names make another id, so that a changed configuration does not serve a certificate that does not fit.
pub(super) fn id(directory: &str, names: &[String]) -> String {
    let mut sorted: Vec<_> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.insert(0, directory);
    format!("{}-{}", names.first().map_or("", String::as_str), short_hash(&sorted))
}

fn short_hash(parts: &[&str]) -> String {
    let hash = digest(&SHA256, parts.join("\n").as_bytes());
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `token` is base64url (RFC 8555, section 8.3), and so not a path.
fn is_token(token: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(is_allowed)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(io::Error::other(format!("the file is larger than {MAX_FILE_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let write = || {
        let mut file = Replacement::begin(path)?;
        file.write_all(content)?;
        file.commit()
    };
    write().map_err(|error| AcmeError::storage(path, &error))
}

/// Removes a file that may not exist.
fn remove(path: &Path) {
    // A file that remains is harmless: it is removed before the next order.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests;
