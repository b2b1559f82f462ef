//! The certificates: the default one in `[tls]`, and each `[[certificate]]`.

use std::path::{Path, PathBuf};

use super::required;
use super::section::Section;
use crate::tls::{Identity, NotAnIdentity, Purpose};
use holodule_settings::{Source, shown_path};

/// Reads every certificate with its private key. With `has_acme`, certificates are obtained by ACME, so that `[tls]` is
/// optional.
pub(super) fn read(source: &mut Source, has_acme: bool) -> Option<Vec<Identity>> {
    let default = if has_acme { read_optional(source) } else { Some(read_required(source)) };
    let mut pairs: Vec<_> =
        default.map(|(certificate, key)| ("tls".to_owned(), certificate, key)).into_iter().collect();
    let further = Section::list_without_secrets(source, "certificate").unwrap_or_default();
    if pairs.is_empty() && !further.is_empty() {
        source.conflict("certificate", "requires tls.certificate, which is the default");
    }
    for mut section in further {
        let certificate = section.required(source, "certificate", "a PEM file, the leaf first").map(PathBuf::from);
        let private_key = section.required(source, "private_key", "the PEM file of the leaf's key").map(PathBuf::from);
        pairs.push((section.path().to_owned(), certificate, private_key));
        section.finish(source);
    }
    let identities: Vec<_> = pairs
        .into_iter()
        .map(|(section, certificate, key)| {
            read_pair(source, &section, certificate.as_deref(), key.as_deref(), Purpose::Server)
        })
        .collect();
    identities.into_iter().collect()
}

fn read_required(source: &mut Source) -> (Option<PathBuf>, Option<PathBuf>) {
    let certificate = required(source, "tls.certificate", "a PEM file, the leaf first");
    (certificate, required(source, "tls.private_key", "the PEM file of the leaf's key"))
}

/// The paths of the pair; `None` if neither is given. An empty path counts as none.
fn read_optional(source: &mut Source) -> Option<(Option<PathBuf>, Option<PathBuf>)> {
    let [certificate, key] =
        ["tls.certificate", "tls.private_key"].map(|key| source.parse_unless_empty(key, str::parse::<PathBuf>));
    if certificate.is_some() != key.is_some() {
        source.conflict("tls.certificate", "and tls.private_key are required together");
    }
    (certificate.is_some() || key.is_some()).then_some((certificate, key))
}

/// Reads both files even if one is missing or invalid, so that the problems of both are reported.
pub(super) fn read_pair(
    source: &mut Source,
    section: &str,
    certificate: Option<&Path>,
    private_key: Option<&Path>,
    purpose: Purpose,
) -> Option<Identity> {
    if let Some(private_key) = private_key {
        source.expect_private(private_key);
    }
    if let Some(certificate) = certificate {
        source.reads(certificate);
    }
    let mut note = |error: NotAnIdentity| {
        let (field, path) = match error {
            NotAnIdentity::Certificate(_) => ("certificate", certificate),
            NotAnIdentity::PrivateKey(_) => ("private_key", private_key),
        };
        source.problem(&format!("{section}.{field}"), format!("{}{error}", path.map(shown).unwrap_or_default()));
    };
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => match Identity::read(certificate, private_key, purpose) {
            Ok(identity) => {
                let chain = identity.certified.cert.iter().flat_map(|certificate| certificate.iter().copied());
                source.record_content(&format!("{section}.certificate"), &chain.collect::<Vec<_>>());
                return Some(identity);
            }
            Err(error) => {
                let is_of_certificate = matches!(error, NotAnIdentity::Certificate(_));
                note(error);
                if is_of_certificate {
                    let _ = Identity::check_private_key(private_key).map_err(note);
                }
            }
        },
        (Some(certificate), None) => {
            let _ = Identity::check_certificate(certificate, purpose).map_err(note);
        }
        (None, Some(private_key)) => {
            let _ = Identity::check_private_key(private_key).map_err(note);
        }
        (None, None) => {}
    }
    None
}

/// The path, as the prefix of an error message. A value that resembles PEM is not shown, since it may be a private
/// key.
pub(super) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_content = text.contains("----") || text.contains('\n');
    match is_content {
        true => "the value must be the path of a file, and not its content: ".to_owned(),
        false => format!("{}: ", shown_path(path)),
    }
}

/// Warnings about the certificates at `now` (seconds since 1970), each with its key.
pub(super) fn warnings(identities: &[Identity], now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, identity) in identities.iter().enumerate() {
        let section = match index {
            0 => "tls".to_owned(),
            further => format!("certificate[{}]", further - 1),
        };
        let about_certificate = identity.certificate_warnings(now);
        warnings.extend(about_certificate.iter().map(|doubt| format!("{section}.certificate: {doubt}")));
        warnings.extend(identity.key_warning().map(|doubt| format!("{section}.private_key: {doubt}")));
    }
    warnings
}
