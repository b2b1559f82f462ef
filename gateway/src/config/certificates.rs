//! The certificates: `[tls]` has the one that is shown by default, each `[[certificate]]` a
//! further one.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::required;
use crate::listener::{Identity, NotAnIdentity};
use holodule_settings::Source;

/// One `[[certificate]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Further {
    certificate: PathBuf,
    private_key: PathBuf,
}

/// Reads every certificate with its key; what is wrong is told by the key of each.
pub(super) fn read(source: &mut Source) -> Option<Vec<Identity>> {
    let certificate: Option<PathBuf> = required(source, "tls.certificate", "a PEM file, the leaf first");
    let private_key: Option<PathBuf> = required(source, "tls.private_key", "the PEM file of the leaf's key");
    let further: Vec<Further> = source.get_or("certificate", Vec::new());
    let first =
        certificate.zip(private_key).and_then(|(certificate, key)| read_pair(source, "tls", &certificate, &key));
    let mut identities = vec![first];
    for (index, pair) in further.iter().enumerate() {
        identities.push(read_pair(source, &format!("certificate[{index}]"), &pair.certificate, &pair.private_key));
    }
    identities.into_iter().collect()
}

fn read_pair(source: &mut Source, section: &str, certificate: &Path, private_key: &Path) -> Option<Identity> {
    source.expect_private(private_key);
    let read = Identity::read(certificate, private_key).map_err(|error| {
        let (key, path) = match error {
            NotAnIdentity::Certificate(_) => ("certificate", certificate),
            NotAnIdentity::PrivateKey(_) => ("private_key", private_key),
        };
        source.problem(&format!("{section}.{key}"), format!("{}{error}", shown(path)));
    });
    read.ok()
}

/// The file by its path, before what is wrong with it. A text that cannot be a path may be the PEM
/// itself, so no part of it is shown.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_path = !text.contains("-----") && !text.contains(char::is_control) && text.len() <= 255;
    if is_path { format!("{text}: ") } else { "the value must be the path of a file, and not its content: ".to_owned() }
}

/// What is doubtful at `now` (seconds since 1970) about the certificates, each by its key.
pub(super) fn warnings(identities: &[Identity], now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, identity) in identities.iter().enumerate() {
        let section = match index {
            0 => "tls".to_owned(),
            further => format!("certificate[{}]", further - 1),
        };
        let about_certificate = identity.doubts_about_certificate(now);
        warnings.extend(about_certificate.iter().map(|doubt| format!("{section}.certificate: {doubt}")));
        warnings.extend(identity.doubt_about_key().map(|doubt| format!("{section}.private_key: {doubt}")));
    }
    warnings
}
