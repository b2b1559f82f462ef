//! `[acme]`: certificates that the gateway obtains itself.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use holodule_settings::{Environment, Source, shown, shown_path};
use http::Uri;
use rustix::fs::{Access, access};
use toml::Value;

use super::certificates;
use crate::acme::{Binding, Challenge, LETS_ENCRYPT, Settings};
use crate::tls::{Authorities, ClientSide};

/// Where distributions have the CAs that they trust.
const SYSTEM_CAS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The folder of the state, unless systemd names another one.
const STATE_DIRECTORY: &str = "/var/lib/holodule-gateway";

/// The limits on names, which are those of Let's Encrypt for one certificate.
const MAX_CERTIFICATES: usize = 100;
const MAX_NAMES: usize = 100;

/// The folder of the state: that of systemd's `StateDirectory=`, or its usual path.
pub(super) fn state_directory(environment: &Environment) -> PathBuf {
    let list = environment.get("STATE_DIRECTORY").unwrap_or_default();
    let first = list.split(':').next().filter(|first| !first.is_empty());
    PathBuf::from(first.unwrap_or(STATE_DIRECTORY))
}

/// Reads `[acme]`; `None` if it names no domains. `has_redirect` is whether the redirect listener is enabled.
pub(super) fn read(source: &mut Source, state_directory: &Path, has_redirect: bool) -> Option<Settings> {
    let certificates = read_domains(source);
    let email = source.parse_unless_empty("acme.email", parse_email);
    let accept_terms = source.get_or("acme.accept_terms", false);
    let directory = source.parse_unless_empty("acme.directory", parse_directory);
    let ca_root = source.parse_unless_empty("acme.ca_root", str::parse::<PathBuf>);
    let profile = source.parse_unless_empty("acme.profile", parse_word);
    let key_id = source.parse_unless_empty("acme.eab_key_id", parse_word);
    let key = read_key(source);
    let storage = source.parse_unless_empty("acme.storage", str::parse::<PathBuf>);
    let retry_delay = source.seconds("acme.retry_delay", 60.0, 1.0..=3600.0);
    if key_id.is_some() != key.is_some() {
        source.conflict("acme.eab_key", "and acme.eab_key_id are required together");
    }
    let Some(certificates) = certificates else {
        if accept_terms || email.is_some() {
            source.conflict("acme.domains", "is required: the names of the certificate");
        }
        return None;
    };
    if !accept_terms {
        let reason = "must be true: with it you accept the terms of service of the CA, which its directory names";
        source.conflict("acme.accept_terms", reason);
    }
    let storage = storage.unwrap_or_else(|| state_directory.join("acme"));
    if let Err(error) = is_writable(&storage) {
        source.problem("acme.storage", format!("{} cannot be written to: {error}", shown_path(&storage)));
    }
    let tls = read_authorities(source, ca_root)?;
    let redirect = has_redirect.then_some(Challenge::Http01);
    Some(Settings {
        certificates,
        email,
        directory: directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned()),
        tls: Arc::new(tls),
        profile,
        binding: key_id.zip(key).map(|(id, key)| Binding { id, key }),
        storage,
        retry_delay,
        challenges: redirect.into_iter().chain([Challenge::TlsAlpn01]).collect(),
    })
}

/// The names of each certificate; `None` if there are none.
fn read_domains(source: &mut Source) -> Option<Vec<Vec<String>>> {
    const KEY: &str = "acme.domains";
    let values: Vec<Value> = source.get_or(KEY, Vec::new());
    let texts = |values: &[Value]| values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>();
    let lists: Option<Vec<Vec<String>>> = match values.first()? {
        Value::String(_) => texts(&values).map(|names| vec![names]),
        _ => values.iter().map(|value| texts(value.as_array()?)).collect(),
    };
    let Some(lists) = lists.filter(|lists| lists.iter().all(|names| !names.is_empty())) else {
        source.problem(KEY, "must be a list of names, or a list of such lists for several certificates");
        return None;
    };
    let before = source.problems();
    if lists.len() > MAX_CERTIFICATES || lists.iter().any(|names| names.len() > MAX_NAMES) {
        source.problem(KEY, format!("has more than {MAX_CERTIFICATES} certificates, or {MAX_NAMES} names in one"));
    }
    let mut all: Vec<String> = Vec::new();
    for name in lists.iter().flatten().map(|name| name.to_ascii_lowercase()) {
        if let Err(reason) = check_name(&name) {
            source.problem(KEY, format!("{} {reason}", shown(&name)));
        } else if all.contains(&name) {
            source.problem(KEY, format!("{} is given twice", shown(&name)));
        }
        all.push(name);
    }
    let lists = lists.iter().map(|names| names.iter().map(|name| name.to_ascii_lowercase()).collect());
    (source.problems() == before).then(|| lists.collect())
}

/// Checks that `name` is a DNS name of which a CA can validate the control by http-01 or tls-alpn-01.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.contains('*') {
        return Err("is a wildcard, which requires dns-01 and is not supported: list the names, or use certbot");
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("is an IP address, which is not supported");
    }
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    let is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if is_name && !is_number { Ok(()) } else { Err("is not a DNS name; other alphabets are written as xn--") }
}

fn parse_email(text: &str) -> Result<String, &'static str> {
    let is_address = text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    // `,` and `?` have a meaning in the URL that it becomes a part of (RFC 6068).
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?' | b'"'));
    if is_address && is_plain { Ok(text.to_owned()) } else { Err("must be one email address") }
}

fn parse_word(text: &str) -> Result<String, &'static str> {
    let is_word = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err("must be a word of at most 256 ASCII characters") }
}

fn parse_directory(text: &str) -> Result<String, &'static str> {
    let uri = text.parse::<Uri>().ok();
    let is_url = uri.is_some_and(|uri| {
        uri.scheme_str() == Some("https") && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
    });
    if is_url { Ok(text.to_owned()) } else { Err("must be the https URL of a directory") }
}

fn read_key(source: &mut Source) -> Option<Vec<u8>> {
    let key = source.secret("acme.eab_key").filter(|key| !key.expose().is_empty())?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(key.expose().trim_end_matches('='));
    decoded.map_err(|_| source.problem("acme.eab_key", "must be base64url, as the CA shows it")).ok()
}

fn read_authorities(source: &mut Source, file: Option<PathBuf>) -> Option<ClientSide> {
    let system = || SYSTEM_CAS.map(PathBuf::from).into_iter().find(|file| file.is_file());
    let Some(file) = file.or_else(system) else {
        source.problem("acme.ca_root", "is required: the CAs of the system were not found (package ca-certificates)");
        return None;
    };
    source.reads(&file);
    let tls = Authorities::read(&file)
        .and_then(|authorities| ClientSide::new(authorities, None, "http/1.1").map_err(|error| error.to_string()));
    tls.map_err(|reason| source.problem("acme.ca_root", format!("{}{reason}", certificates::shown(&file)))).ok()
}

/// Whether files can be created in `folder`, or it can be created.
fn is_writable(folder: &Path) -> std::io::Result<()> {
    let existing = folder.ancestors().find(|part| part.symlink_metadata().is_ok() || part.as_os_str().is_empty());
    let existing = existing.filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Problems that may prevent that a certificate is obtained.
pub(super) fn warnings(settings: Option<&Settings>, https: SocketAddr, http: Option<SocketAddr>) -> Vec<String> {
    let Some(settings) = settings else { return Vec::new() };
    let mut warnings = Vec::new();
    // Behind a port mapping it is another port, and 0 is any.
    let may_be = |address: SocketAddr, port| [0, port].contains(&address.port());
    if !may_be(https, 443) && !http.is_some_and(|http| may_be(http, 80)) {
        warnings.push(format!(
            "acme.domains: a CA validates names at the ports 80 or 443 only, and http_addr is {}, https_addr is {https}: \
             set http_addr to [::]:80 or https_addr to [::]:443, unless the ports are mapped",
            http.map_or_else(|| "not set".to_owned(), |http| http.to_string())
        ));
    }
    if https.ip().is_loopback() && http.is_none_or(|http| http.ip().is_loopback()) && https.port() != 0 {
        warnings.push(format!(
            "acme.domains: https_addr is {https}, which the CA cannot reach, and no other address is public: set it to \
             [::]:443, unless a proxy on this machine forwards to it"
        ));
    }
    let mode = std::fs::metadata(&settings.storage).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o022 != 0 {
        let folder = shown_path(&settings.storage);
        warnings.push(format!("acme.storage: {folder} can be changed by others than its owner: set its mode to 0700"));
    }
    warnings
}

#[cfg(test)]
mod tests;
