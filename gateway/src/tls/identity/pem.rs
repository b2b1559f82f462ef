//! Parses PEM (RFC 7468), and diagnoses files without the expected content.
//!
//! All messages are static, so that none can contain a part of a key.

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::certificate::X509Certificate;

/// Why a file cannot be used, and how to fix it.
type PemError = &'static str;

const EMPTY: PemError = "the file is empty";
const UTF_16: PemError = "the file is UTF-16 text; save it as UTF-8, as by: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE";
const BINARY: PemError = "the file is binary data and not PEM, which is text with a line that begins with -----BEGIN";
const PKCS_12: PemError = "the file is a PKCS#12 container (.p12, .pfx); extract PEM from it by: \
                         openssl pkcs12 -in FILE -clcerts -nokeys -out cert.pem, and -nocerts -nodes -out key.pem";
const PKCS_7: PemError = "the file is a PKCS#7 container; convert it by: openssl pkcs7 -print_certs -in FILE -out NEW_FILE \
                        (with -inform DER where it is binary)";
const DER_CERTIFICATE: PemError =
    "the file is a certificate in DER; convert it to PEM by: openssl x509 -inform DER -in FILE -out NEW_FILE";
const DER_KEY: PemError =
    "the file is a private key in DER; convert it to PEM by: openssl pkey -inform DER -in FILE -out NEW_FILE";
const NO_PEM: PemError = "there is no PEM in the file: no line begins with -----BEGIN";
const LOST_LINE_BREAKS: PemError =
    "the PEM has lost its line breaks: the BEGIN line, each line of base64 and the END line must be lines of their own";
const INDENTED: PemError = "the PEM is indented or quoted: its lines must begin at the left margin";
const CUT: PemError = "a PEM block has no END line that matches its BEGIN line: the file is incomplete";
const DAMAGED: PemError = "the base64 of a PEM block is damaged";
const ENCRYPTED: PemError = "the private key is encrypted with a passphrase, which the gateway cannot ask for; decrypt it by: \
                           openssl pkey -in FILE -out NEW_FILE (a DER file: with -inform DER)";
const SWAPPED_CERTIFICATE: PemError =
    "the file holds a private key and no certificate: are `certificate` and `private_key` swapped?";
const SWAPPED_KEY: PemError =
    "the file holds a certificate and no private key: are `certificate` and `private_key` swapped?";
const REQUEST: PemError = "the file holds a certificate signing request and no certificate: a CA answers it with one";
const TRUSTED: PemError =
    "the file holds a certificate in OpenSSL's own form; convert it by: openssl x509 -in FILE -out NEW_FILE";
const PUBLIC_KEY: PemError = "the file holds a public key alone";
const OPENSSH: PemError =
    "the private key is in the form of OpenSSH; convert a copy by: ssh-keygen -p -m PKCS8 -f COPY";
const PARAMETERS: PemError = "the file holds parameters of a key and no key";
const DSA: PemError = "the private key is one of DSA, which TLS no longer uses: RSA, ECDSA or Ed25519 is needed";
const NO_CERTIFICATE: PemError = "there is no certificate in the file: no line is -----BEGIN CERTIFICATE-----";
const NO_KEY: PemError = "there is no private key in the file: no line is -----BEGIN PRIVATE KEY-----";

/// PEM labels of the supported private keys.
const KEY_LABELS: [&[u8]; 3] = [b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"];

/// Returns the certificates in the PEM file `bytes`, at least one.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let bytes = without_mark(bytes);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    if chain.as_ref().is_ok_and(|chain| !chain.is_empty()) {
        return chain.map_err(|error| reason(&error));
    }
    check_layout(bytes, Wanted::Certificate)?;
    chain.map_err(|error| reason(&error))?;
    let labels = labels(bytes);
    let has = |label: &[u8]| labels.contains(&label);
    Err(if labels.iter().any(|label| label.ends_with(b"PRIVATE KEY")) {
        SWAPPED_CERTIFICATE
    } else if has(b"CERTIFICATE REQUEST") || has(b"NEW CERTIFICATE REQUEST") {
        REQUEST
    } else if has(b"TRUSTED CERTIFICATE") {
        TRUSTED
    } else if has(b"PKCS7") || has(b"CMS") {
        PKCS_7
    } else if labels.iter().any(|label| label.ends_with(b"PUBLIC KEY")) {
        PUBLIC_KEY
    } else {
        NO_CERTIFICATE
    })
}

/// Returns the first private key in the PEM file `bytes`, and the number of keys.
pub(super) fn private_key(bytes: &[u8]) -> Result<(PrivateKeyDer<'static>, usize), PemError> {
    let bytes = without_mark(bytes);
    let labels = labels(bytes);
    let error = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => return Ok((key, labels.iter().filter(|label| KEY_LABELS.contains(label)).count())),
        Err(error) => error,
    };
    check_layout(bytes, Wanted::Key)?;
    // The traditional form of an encrypted key (RFC 1421, section 4.6.1.1) has header fields before its base64.
    if contains(bytes, b"Proc-Type:") {
        return Err(ENCRYPTED);
    }
    if !matches!(error, pem::Error::NoItemsFound) {
        return Err(reason(&error));
    }
    let has = |label: &[u8]| labels.contains(&label);
    Err(if has(b"ENCRYPTED PRIVATE KEY") {
        ENCRYPTED
    } else if has(b"OPENSSH PRIVATE KEY") {
        OPENSSH
    } else if has(b"DSA PRIVATE KEY") {
        DSA
    } else if has(b"CERTIFICATE") {
        SWAPPED_KEY
    } else if labels.iter().any(|label| label.ends_with(b"PUBLIC KEY")) {
        PUBLIC_KEY
    } else if labels.iter().any(|label| label.ends_with(b"PARAMETERS")) {
        PARAMETERS
    } else {
        NO_KEY
    })
}

/// Removes a UTF-8 byte order mark, which some editors write.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The parser's own messages contain file content.
fn reason(error: &pem::Error) -> PemError {
    match error {
        pem::Error::MissingSectionEnd { .. } => CUT,
        pem::Error::IllegalSectionStart { .. } => LOST_LINE_BREAKS,
        _ => DAMAGED,
    }
}

/// The expected content of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

/// Detects layout problems that hide PEM blocks from the parser.
fn check_layout(bytes: &[u8], wanted: Wanted) -> Result<(), PemError> {
    if bytes.trim_ascii().is_empty() {
        return Err(EMPTY);
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || contains(bytes, b"-\0-\0-") {
        return Err(UTF_16);
    }
    if !contains(bytes, b"-----BEGIN ") {
        return Err(without_pem(bytes, wanted));
    }
    for line in lines_of(bytes) {
        let trimmed = line.trim_ascii();
        let (begins, ends) = (contains(line, b"-----BEGIN "), contains(line, b"-----END "));
        let ends_block = trimmed.starts_with(b"-----END ") && trimmed.ends_with(b"-----");
        let is_joined = begins && (ends || !trimmed.ends_with(b"-----"));
        if is_joined || (ends && !ends_block) || trimmed.ends_with(b"\\n") {
            return Err(LOST_LINE_BREAKS);
        }
        if (begins && !line.starts_with(b"-----BEGIN ")) || (ends && !line.starts_with(b"-----END ")) {
            return Err(INDENTED);
        }
    }
    Ok(())
}

/// Diagnoses a file without any PEM block.
fn without_pem(bytes: &[u8], wanted: Wanted) -> PemError {
    let Ok((_, outer)) = Any::from_der(bytes) else {
        return if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() { BINARY } else { NO_PEM };
    };
    if X509Certificate::from_der(bytes).is_ok() {
        return if wanted == Wanted::Certificate { DER_CERTIFICATE } else { SWAPPED_KEY };
    }
    let Ok((_, first)) = Any::from_der(outer.data) else { return BINARY };
    match first.tag() {
        // The version field: 0 or 1 in the formats of private keys (RFC 8017, RFC 5915, RFC 5958), 3 in PKCS#12
        // (RFC 7292, section 4).
        Tag::Integer if first.data == [3] => PKCS_12,
        Tag::Integer if wanted == Wanted::Certificate => SWAPPED_CERTIFICATE,
        Tag::Integer => DER_KEY,
        Tag::Oid => PKCS_7,
        Tag::Sequence if is_encryption(first.data) => {
            if wanted == Wanted::Key {
                ENCRYPTED
            } else {
                SWAPPED_CERTIFICATE
            }
        }
        _ => BINARY,
    }
}

/// Returns whether the algorithm identifies an encrypted key (RFC 5958, section 3): PKCS#5 or PKCS#12.
fn is_encryption(algorithm: &[u8]) -> bool {
    const PKCS_5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
    const PKCS_12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
    Any::from_der(algorithm).is_ok_and(|(_, oid)| {
        oid.tag() == Tag::Oid && (oid.data.starts_with(PKCS_5) || oid.data.starts_with(PKCS_12_PBE))
    })
}

/// Returns the labels of the PEM blocks, in order.
fn labels(bytes: &[u8]) -> Vec<&[u8]> {
    lines_of(bytes)
        .filter_map(|line| line.trim_ascii_end().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----"))
        .collect()
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
