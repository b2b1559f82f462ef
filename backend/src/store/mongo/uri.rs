//! Checks URLs with the driver, without contacting a server or DNS.

use futures_util::FutureExt;
use mongodb::error;
use mongodb::options::ClientOptions;

/// Options of the URI specification that this build of the driver does not support. Without them it connects to the
/// same servers, with the same or stricter checks.
const UNSUPPORTED: [&str; 9] = [
    "adaptiveRetries",
    "compressors",
    "serverSelectionTryOnce",
    "socketTimeoutMS",
    "timeoutMS",
    "tlsAllowInvalidHostnames",
    "tlsDisableCertificateRevocationCheck",
    "tlsDisableOCSPEndpointCheck",
    "zlibCompressionLevel",
];

/// Options whose values are secret, in lower case.
const SECRET: [&str; 3] = ["authmechanismproperties", "proxypassword", "tlscertificatekeyfilepassword"];

/// A URL accepted by the driver.
pub(super) struct CheckedUri {
    /// Without the unsupported options.
    pub(super) text: String,
    /// The names of the unsupported options.
    pub(super) unsupported: Vec<String>,
}

/// Checks a URL, or returns the driver's reason without secrets.
pub(super) fn accept(text: &str) -> Result<CheckedUri, String> {
    let (text, unsupported) = without_unsupported(text);
    match unresolved(&text) {
        Ok(_) => Ok(CheckedUri { text, unsupported }),
        Err(error) => Err(reason(&text, &error)),
    }
}

/// The client options, with the host of `mongodb+srv` instead of the hosts found in DNS.
pub(super) fn unresolved(text: &str) -> error::Result<ClientOptions> {
    let options = match text.strip_prefix("mongodb+srv://") {
        Some(rest) => {
            // First unchanged: the two schemes allow different options.
            mongodb::options::ConnectionString::parse(text)?;
            let rest = retain(rest, |name| !matches!(name, "srvmaxhosts" | "srvservicename"));
            ClientOptions::parse(format!("mongodb://{rest}"))
        }
        None => ClientOptions::parse(text),
    };
    // It only waits for DNS.
    async { options.await }.now_or_never().unwrap_or_else(|| Err(error::Error::custom("it cannot be read at once")))
}

fn without_unsupported(text: &str) -> (String, Vec<String>) {
    let mut unsupported = Vec::new();
    let retained =
        retain(text, |name| match UNSUPPORTED.iter().find(|unsupported| unsupported.eq_ignore_ascii_case(name)) {
            Some(name) => {
                unsupported.push((*name).to_owned());
                false
            }
            None => true,
        });
    (retained, unsupported)
}

/// The URL with only those options whose lower-case name is `wanted`.
fn retain(text: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
    let Some((before, options)) = text.split_once('?') else { return text.to_owned() };
    let mut named = |option: &&str| option.split_once('=').is_none_or(|(name, _)| wanted(&name.to_ascii_lowercase()));
    let retained: Vec<&str> = options.split('&').filter(|option| named(option)).collect();
    if retained.is_empty() { before.to_owned() } else { format!("{before}?{}", retained.join("&")) }
}

/// The driver's reason, unless it repeats a part of the URL that may be secret.
pub(super) fn reason(text: &str, error: &error::Error) -> String {
    let reason = match error.kind.as_ref() {
        error::ErrorKind::InvalidArgument { message, .. } => message.clone(),
        error::ErrorKind::InvalidTlsConfig { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let lower = reason.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    // Short secrets are part of many words.
    let shows = |secret: &String| words.contains(&secret.as_str()) || (secret.len() > 3 && lower.contains(secret));
    if secrets(text).iter().any(shows) {
        return "its reason repeats a part of the user, the password or a secret option; each must be percent-encoded"
            .to_owned();
    }
    // An unknown option name, and the value of any option, may be a misplaced secret.
    let options = text.split_once('?').map_or("", |(_, options)| options).split(['&', ';']);
    let mut options = options.map(|option| option.split_once('=').unwrap_or((option, "")));
    let may_be_secret = |(name, value): (&str, &str)| {
        let is_name = name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_path = name.to_ascii_lowercase().ends_with("file") && value.starts_with('/');
        let mut parts = value.split([',', ':', '=']).filter(|part| part.len() > LONGEST_VALUE && !is_path);
        !is_name || parts.any(|part| lower.contains(&part.to_ascii_lowercase()))
    };
    if options.any(may_be_secret) {
        return "it has an unknown option, or one with a wrong value, which is not repeated".to_owned();
    }
    reason
}

/// The longest repeated option name, in bytes; the driver's own are shorter.
const LONGEST_NAME: usize = 40;

/// The longest repeated option value, in bytes.
const LONGEST_VALUE: usize = 12;

/// All possible parts of the user, the password or a secret option, in lower case. In a malformed URL the end of the
/// password is unknown: the last `@` at the latest.
fn secrets(text: &str) -> Vec<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let userinfo = rest.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
    let options = rest.split_once('?').map_or("", |(_, options)| options).split('&');
    let options = options.filter_map(|option| option.split_once('='));
    let values = options.filter(|(name, _)| SECRET.contains(&name.to_ascii_lowercase().as_str()));
    let pieces = std::iter::once(userinfo).chain(values.map(|(_, value)| value));
    pieces
        .flat_map(|piece| {
            let decoded = percent_encoding::percent_decode_str(piece).decode_utf8_lossy().into_owned();
            [piece.to_owned(), decoded]
        })
        .flat_map(|piece| piece.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect::<Vec<_>>())
        .filter(|piece| !piece.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(text: &str) -> String {
        accept(text).map(|accepted| accepted.text).expect_err(text)
    }

    #[test]
    fn unsupported_options_are_removed() {
        for (text, left, unsupported) in [
            ("mongodb://h", "mongodb://h", &[][..]),
            ("mongodb://h/?socketTimeoutMS=1", "mongodb://h/", &["socketTimeoutMS"]),
            (
                "mongodb://u:p@h/d?compressors=snappy,zlib&TLS=true&tlsallowinvalidhostnames=true&timeoutMS=1",
                "mongodb://u:p@h/d?TLS=true",
                &["compressors", "tlsAllowInvalidHostnames", "timeoutMS"],
            ),
            ("mongodb+srv://h/?serverSelectionTryOnce=true&w=1", "mongodb+srv://h/?w=1", &["serverSelectionTryOnce"]),
        ] {
            let accepted = accept(text).unwrap();
            assert_eq!(
                (accepted.text.as_str(), accepted.unsupported.as_slice()),
                (left, &*unsupported.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            );
        }
    }

    #[test]
    fn a_url_rejected_by_the_driver_has_its_reason() {
        for (text, word) in [
            ("mongodb://h/?tsl=true", "tsl"),
            ("mongodb://h/?tls=yes", "boolean"),
            ("mongodb://h/?ssl=true&tls=false", "TLS"),
            ("mongodb://h:port/", "port"),
            ("mongodb://h/?maxPoolSize=many", "maxpoolsize"),
            ("mongodb://h,i/?directConnection=true", "directConnection"),
            ("mongodb://h/?proxyHost=p", "proxy"),
            ("mongodb+srv://h,i/", "exactly one host"),
            ("mongodb+srv://h:1/", "port"),
            ("mongodb+srv://h/?srvMaxHosts=2&replicaSet=r", "srvMaxHosts"),
            ("mongodb+srv://h/?maxPoolSize=0", "maxPoolSize"),
            ("mongodb://h/?srvMaxHosts=2", "srvMaxHosts"),
            ("mongodb://us er%:password01@h/", "%"),
        ] {
            let reason = rejection(text);
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }

    #[test]
    fn no_reason_repeats_a_secret() {
        for text in [
            "mongodb://usr:s3cret?x@h/",
            "mongodb://usr:ab?s3cret@h/",
            "mongodb://usr:p/s3cret@h:1/db",
            "mongodb://usr:s3c/s3cret?@s3cret@h:1/db",
            "mongodb://usr:s3cret:x@h/",
            "mongodb://usr:@s3cret@h/",
            "mongodb://usr:p@h/?authMechanism=MONGODB-AWS&authMechanismProperties=s3cret",
            "mongodb://usr:a&s3cret=1?s3cret=1@h/",
            "mongodb://usr%3As3cret@h/?s3cret=1",
        ] {
            let reason = rejection(text);
            assert!(!reason.to_lowercase().contains("s3c"), "{text}: {reason}");
        }
    }
}
