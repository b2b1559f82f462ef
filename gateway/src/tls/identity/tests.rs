use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use time::{Duration, OffsetDateTime};

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 60 * 60;

/// Returns the output of `openssl` for `input`.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["in", "out"].map(|name| folder.path().join(name));
    std::fs::write(&from, input).unwrap();
    let made = Command::new("openssl").args(arguments).arg("-in").arg(&from).arg("-out").arg(&to).output().unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(to).unwrap()
}

/// Generates a key with `openssl genpkey`.
fn genpkey(arguments: &[&str]) -> Vec<u8> {
    let made = Command::new("openssl").arg("genpkey").args(arguments).output().unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

fn read(certificate: &[u8], key: &[u8]) -> Result<Identity, NotAnIdentity> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    Identity::read(&file("cert.pem", certificate), &file("key.pem", key), Purpose::Server)
}

/// The error message for an invalid certificate.
fn not_a_certificate(certificate: &[u8], key: &[u8]) -> String {
    match read(certificate, key).unwrap_err() {
        NotAnIdentity::Certificate(reason) => reason,
        NotAnIdentity::PrivateKey(reason) => panic!("the key is blamed: {reason}"),
    }
}

/// The error message for an invalid key.
fn not_a_key(certificate: &[u8], key: &[u8]) -> String {
    match read(certificate, key).unwrap_err() {
        NotAnIdentity::PrivateKey(reason) => reason,
        NotAnIdentity::Certificate(reason) => panic!("the certificate is blamed: {reason}"),
    }
}

/// A CA, valid from 100 days before [`NOW`] to 100 days after.
fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(&[]);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = (now - Duration::days(100), now + Duration::days(100));
    params
}

/// A leaf issued by `ca`, modified by `change`: certificate and key in PEM.
fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = params(&["example.org"]);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

#[test]
fn errors_name_the_file_the_cause_and_the_fix() {
    let ca = ca("CA");
    let (certificate, key) = leaf(&ca, |_| {});
    let (pem, key) = (certificate.as_bytes(), key.as_bytes());
    let utf_16: Vec<u8> =
        "\u{feff}".encode_utf16().chain(certificate.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let certificate_der = openssl(&["x509", "-outform", "DER"], pem);
    let key_der = openssl(&["pkey", "-outform", "DER"], key);
    let pkcs_12 = openssl(&["pkcs12", "-export", "-passout", "pass:hush"], &[pem, key].concat());
    let certificate_files: [(&str, &[u8], &str); 12] = [
        ("empty", b"", "is empty"),
        ("blank", b" \n\n", "is empty"),
        ("DER", &certificate_der, "certificate in DER; convert it to PEM by: openssl x509 -inform DER"),
        ("PKCS#12", &pkcs_12, "PKCS#12"),
        ("UTF-16", &utf_16, "UTF-16"),
        ("UTF-16 without a mark", &utf_16[2..], "UTF-16"),
        ("the key", key, "swapped"),
        ("the key in DER", &key_der, "swapped"),
        ("text", b"nothing of the kind\n", "no PEM in the file"),
        (
            "indented",
            &certificate.replace('\n', "\n  ").replacen("-----BEGIN", "  -----BEGIN", 1).into_bytes(),
            "indented",
        ),
        ("cut", &pem[..pem.len() / 2], "incomplete"),
        ("damaged", &certificate.replacen("MII", "M!!", 1).into_bytes(), "base64 of a PEM block is damaged"),
    ];
    for (name, file, expected) in certificate_files {
        let reason = not_a_certificate(file, key);
        assert!(reason.contains(expected), "{name}: {reason}");
    }
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:hush"], key);
    let encrypted_der = openssl(&["pkcs8", "-topk8", "-passout", "pass:hush", "-outform", "DER"], key);
    let older_form = openssl(&["ec", "-aes128", "-passout", "pass:hush"], key);
    assert!(older_form.windows(10).any(|window| window == b"Proc-Type:"));
    let rsa_1024 = genpkey(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let rsa_1024_older_form = openssl(&["rsa", "-traditional"], &rsa_1024);
    let k1 = genpkey(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
    let k1_older_form = openssl(&["ec"], &k1);
    let another = KeyPair::generate().unwrap().serialize_pem();
    let key_files: [(&str, &[u8], &str); 14] = [
        ("empty", b"", "is empty"),
        ("encrypted", &encrypted, "encrypted with a passphrase"),
        ("encrypted in DER", &encrypted_der, "encrypted with a passphrase"),
        ("encrypted in the older form", &older_form, "encrypted with a passphrase"),
        ("DER", &key_der, "private key in DER; convert it to PEM by: openssl pkey -inform DER"),
        ("PKCS#12", &pkcs_12, "PKCS#12"),
        ("the certificate", pem, "swapped"),
        ("the certificate in DER", &certificate_der, "swapped"),
        ("RSA of 1024 bits", &rsa_1024, "an RSA key of 1024 bits is too short; use RSA with 2048"),
        ("RSA of 1024 bits in the older form", &rsa_1024_older_form, "an RSA key of 1024 bits is too short"),
        ("secp256k1", &k1, "the elliptic curve secp256k1 is not supported"),
        ("secp256k1 in the older form", &k1_older_form, "the elliptic curve secp256k1 is not supported"),
        ("Ed448", &genpkey(&["-algorithm", "ED448"]), "Ed448 is not supported"),
        ("another key", another.as_bytes(), "is not the key of the certificate"),
    ];
    for (name, file, expected) in key_files {
        let reason = not_a_key(pem, file);
        assert!(reason.contains(expected), "{name}: {reason}");
    }
}

#[test]
fn each_file_can_be_checked_without_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let [certificate_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate_file, certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    Identity::check_certificate(&certificate_file, Purpose::Server).unwrap();
    Identity::check_private_key(&key_file).unwrap();
    let error = Identity::check_certificate(&key_file, Purpose::Server).unwrap_err();
    assert!(matches!(&error, NotAnIdentity::Certificate(reason) if reason.contains("swapped")), "{error}");
    let error = Identity::check_private_key(&certificate_file).unwrap_err();
    assert!(matches!(&error, NotAnIdentity::PrivateKey(reason) if reason.contains("swapped")), "{error}");
    let missing = Identity::check_private_key(&folder.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("the file cannot be read: No such file"), "{missing}");
}

#[test]
fn accepts_a_byte_order_mark_and_other_line_ends() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    assert!(read(&marked(&certificate), &marked(&key)).is_ok());
    let crlf = |text: &str| text.replace('\n', "\r\n").into_bytes();
    assert!(read(&crlf(&certificate), &crlf(&key)).is_ok());
}

#[test]
fn detects_a_chain_that_does_not_begin_with_the_leaf() {
    let ca = ca("CA");
    let (certificate, key) = leaf(&ca, |_| {});
    let (other, _) = leaf(&ca, |_| {});
    let reason = not_a_certificate([ca.pem(), certificate.clone()].concat().as_bytes(), key.as_bytes());
    assert!(reason.contains("begins with the certificate of a CA"), "{reason}");
    let reason = not_a_certificate([other, certificate.clone()].concat().as_bytes(), key.as_bytes());
    assert!(reason.contains("a later certificate of the chain"), "{reason}");
    let alone = not_a_certificate(ca.pem().as_bytes(), ca.key().serialize_pem().as_bytes());
    assert!(alone.contains("no subjectAltName"), "{alone}");
}

#[test]
fn the_first_of_several_keys_is_used_with_a_warning() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let other = KeyPair::generate().unwrap().serialize_pem();
    let identity = read(certificate.as_bytes(), [key.clone(), other.clone()].concat().as_bytes()).unwrap();
    assert!(identity.key_warning().unwrap().contains("2 private keys"));
    assert_eq!(read(certificate.as_bytes(), key.as_bytes()).unwrap().key_warning(), None);
    let reason = not_a_key(certificate.as_bytes(), [other, key].concat().as_bytes());
    assert!(reason.contains("several private keys"), "{reason}");
}

/// Typical damage to PEM by environment variables, editors and templates.
fn mangled(pem: &str) -> Vec<String> {
    let lines: Vec<_> = pem.lines().collect();
    let base64 = lines[1..lines.len() - 1].concat();
    let ways = vec![
        pem.replace('\n', ""),
        pem.replace('\n', "\\n"),
        pem.replace('\n', "\\r\\n"),
        pem.replace('\n', "\\n\n"),
        pem.replace('\n', " "),
        pem.replace('\n', "\t"),
        pem.replace('\n', "\0"),
        pem.replacen('\n', "", 1),
        format!("{}{}", &pem[..pem.trim_end().rfind('\n').unwrap()], lines[lines.len() - 1]),
        format!("\"{}\"", pem.replace('\n', "\\n")),
        format!("PRIVATE_KEY={}", pem.replace('\n', "\\n")),
        format!("key: |\n  {}", pem.replace('\n', "\n  ")),
        pem.replace("-----", "----"),
        pem.replace("-----", "------"),
        pem.replace("-----END", "-----FIN"),
        pem.replace("-----BEGIN ", "-----BEGIN"),
        pem.replace(&base64[..10], "!!!!!!!!!!"),
        pem.replace("PRIVATE KEY", "SECRET KEY"),
        pem[..pem.len() / 2].to_owned(),
        base64.clone(),
        STANDARD.encode(pem),
        pem.chars().rev().collect(),
        pem.to_lowercase(),
        lines[1..].join("\n"),
    ];
    assert!(ways.len() >= 20);
    ways
}

#[test]
fn error_messages_never_contain_key_material() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let rsa = String::from_utf8(genpkey(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])).unwrap();
    for secret in [key, rsa] {
        for mangled in mangled(&secret) {
            for result in
                [read(certificate.as_bytes(), mangled.as_bytes()), read(mangled.as_bytes(), mangled.as_bytes())]
            {
                let error = result.unwrap_err();
                for message in [error.to_string(), format!("{error:?}")] {
                    for window in mangled.as_bytes().windows(8) {
                        // The parts that every PEM file has are not secret.
                        let text = String::from_utf8_lossy(window);
                        let is_common = text.contains('-') || "PRIVATE KEY SECRET KEY PRIVATE_KEY=".contains(&*text);
                        let hex = window.iter().fold(String::new(), |mut hex, byte| {
                            let _ = write!(hex, "{byte:02x}");
                            hex
                        });
                        let numbers = window.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
                        assert!(is_common || !message.contains(&*text), "{mangled:?}: {message}");
                        assert!(!message.contains(&hex) && !message.contains(&numbers), "{mangled:?}: {message}");
                    }
                }
            }
        }
    }
}

#[test]
fn detects_pem_without_line_breaks() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    for break_lines in ["", "\\n", "\\r\\n", " ", "\\n\n"] {
        let joined = |pem: &str| pem.replace('\n', break_lines).into_bytes();
        let reason = not_a_key(certificate.as_bytes(), &joined(&key));
        assert!(reason.contains("the PEM has lost its line breaks"), "{break_lines:?}: {reason}");
        let reason = not_a_certificate(&joined(&certificate), key.as_bytes());
        assert!(reason.contains("the PEM has lost its line breaks"), "{break_lines:?}: {reason}");
    }
}

#[test]
fn warns_about_the_validity_of_a_certificate() {
    let ca = ca("CA");
    let at = |days: i64| OffsetDateTime::from_unix_timestamp(NOW + days * DAY).unwrap();
    let warnings = |from: i64, to: i64| {
        let (certificate, key) = leaf(&ca, |params| (params.not_before, params.not_after) = (at(from), at(to)));
        read(certificate.as_bytes(), key.as_bytes()).unwrap().certificate_warnings(NOW)
    };
    assert_eq!(warnings(-1, 15), [""; 0]);
    assert_eq!(warnings(-1, 14), [""; 0]);
    assert_eq!(warnings(-1, 13), ["the certificate expires on 2027-01-28T08:00:00Z, in less than 14 days: renew it"]);
    assert_eq!(warnings(-3, -1), ["the certificate expired on 2027-01-14T08:00:00Z, so clients refuse it: renew it"]);
    let early = warnings(1, 90);
    assert_eq!(early.len(), 1);
    assert!(early[0].starts_with("the certificate is not valid before 2027-01-16T08:00:00Z"), "{early:?}");
    // A certificate is still valid in its last second (RFC 5280, section 4.1.2.5).
    assert!(warnings(-1, 0)[0].contains("expires on"));
}

#[test]
fn warns_about_the_order_issuers_and_usage_of_a_chain() {
    let root = ca("root");
    let mut between = params(&[]);
    between.distinguished_name.push(rcgen::DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    between.not_after = OffsetDateTime::from_unix_timestamp(NOW + 5 * DAY).unwrap();
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let (certificate, key) = leaf(&between, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let warnings =
        |chain: &[&str], key: &str| read(chain.concat().as_bytes(), key.as_bytes()).unwrap().certificate_warnings(NOW);
    let in_order = warnings(&[&certificate, &between.pem(), &root.pem()], &key);
    assert_eq!(in_order.len(), 1, "{in_order:?}");
    assert!(in_order[0].starts_with("certificate 2 of the chain expires on"), "{in_order:?}");
    let disordered = warnings(&[&certificate, &root.pem()], &key);
    assert_eq!(disordered.len(), 1, "{disordered:?}");
    assert!(disordered[0].contains("certificate 1 was not issued by certificate 2"), "{disordered:?}");

    let (client, key) = leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let usage = warnings(&[&client], &key);
    assert_eq!(usage.len(), 1, "{usage:?}");
    assert!(usage[0].contains("serverAuth"), "{usage:?}");
    let (any, key) = leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert_eq!(warnings(&[&any], &key), [""; 0]);
    let (first_is_ca, key) = leaf(&root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let is_ca = warnings(&[&first_is_ca], &key);
    assert_eq!(is_ca.len(), 1, "{is_ca:?}");
    assert!(is_ca[0].contains("the first certificate is a CA's"), "{is_ca:?}");
}
