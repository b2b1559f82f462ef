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

/// What `openssl` writes, given `input`.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["in", "out"].map(|name| folder.path().join(name));
    std::fs::write(&from, input).unwrap();
    let made = Command::new("openssl").args(arguments).arg("-in").arg(&from).arg("-out").arg(&to).output().unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(to).unwrap()
}

/// A key that `openssl genpkey` makes.
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
    Identity::read(&file("cert.pem", certificate), &file("key.pem", key))
}

/// The reason for which the certificate is refused.
fn not_a_certificate(certificate: &[u8], key: &[u8]) -> String {
    match read(certificate, key).unwrap_err() {
        NotAnIdentity::Certificate(reason) => reason,
        NotAnIdentity::PrivateKey(reason) => panic!("the key is blamed: {reason}"),
    }
}

/// The reason for which the key is refused.
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

/// A leaf under `ca`, changed by `change`: certificate and key in PEM.
fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = params(&["example.org"]);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

#[test]
fn each_file_that_cannot_be_used_is_named_with_the_cause_and_the_fix() {
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
    Identity::check_certificate(&certificate_file).unwrap();
    Identity::check_private_key(&key_file).unwrap();
    let error = Identity::check_certificate(&key_file).unwrap_err();
    assert!(matches!(&error, NotAnIdentity::Certificate(reason) if reason.contains("swapped")), "{error}");
    let error = Identity::check_private_key(&certificate_file).unwrap_err();
    assert!(matches!(&error, NotAnIdentity::PrivateKey(reason) if reason.contains("swapped")), "{error}");
    let missing = Identity::check_private_key(&folder.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("the file cannot be read: No such file"), "{missing}");
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_accepted() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    assert!(read(&marked(&certificate), &marked(&key)).is_ok());
    let crlf = |text: &str| text.replace('\n', "\r\n").into_bytes();
    assert!(read(&crlf(&certificate), &crlf(&key)).is_ok());
}

#[test]
fn a_chain_that_does_not_begin_with_the_leaf_is_named() {
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
fn of_several_keys_the_first_is_used_which_is_doubtful() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let other = KeyPair::generate().unwrap().serialize_pem();
    let identity = read(certificate.as_bytes(), [key.clone(), other.clone()].concat().as_bytes()).unwrap();
    assert!(identity.doubt_about_key().unwrap().contains("2 private keys"));
    assert_eq!(read(certificate.as_bytes(), key.as_bytes()).unwrap().doubt_about_key(), None);
    let reason = not_a_key(certificate.as_bytes(), [other, key].concat().as_bytes());
    assert!(reason.contains("several private keys"), "{reason}");
}

/// Ways in which PEM is broken on its way through variables, editors and templates.
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
fn no_message_contains_a_part_of_a_key_however_it_is_mangled() {
    let (certificate, key) = leaf(&ca("CA"), |_| {});
    let rsa = String::from_utf8(genpkey(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])).unwrap();
    for secret in [key, rsa] {
        for mangled in mangled(&secret) {
            for result in
                [read(certificate.as_bytes(), mangled.as_bytes()), read(mangled.as_bytes(), mangled.as_bytes())]
            {
                let error = result.unwrap_err();
                for told in [error.to_string(), format!("{error:?}")] {
                    for window in mangled.as_bytes().windows(8) {
                        // What every PEM file has is no secret.
                        let text = String::from_utf8_lossy(window);
                        let is_common = text.contains('-') || "PRIVATE KEY SECRET KEY PRIVATE_KEY=".contains(&*text);
                        let hex = window.iter().fold(String::new(), |mut hex, byte| {
                            let _ = write!(hex, "{byte:02x}");
                            hex
                        });
                        let numbers = window.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
                        assert!(is_common || !told.contains(&*text), "{mangled:?}: {told}");
                        assert!(!told.contains(&hex) && !told.contains(&numbers), "{mangled:?}: {told}");
                    }
                }
            }
        }
    }
}

#[test]
fn pem_without_its_line_breaks_is_called_so() {
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
fn a_certificate_is_doubtful_by_its_time() {
    let ca = ca("CA");
    let at = |days: i64| OffsetDateTime::from_unix_timestamp(NOW + days * DAY).unwrap();
    let doubts = |from: i64, to: i64| {
        let (certificate, key) = leaf(&ca, |params| (params.not_before, params.not_after) = (at(from), at(to)));
        read(certificate.as_bytes(), key.as_bytes()).unwrap().doubts_about_certificate(NOW)
    };
    assert_eq!(doubts(-1, 15), [""; 0]);
    assert_eq!(doubts(-1, 14), [""; 0]);
    assert_eq!(doubts(-1, 13), ["the certificate expires on 2027-01-28T08:00:00Z, in less than 14 days: renew it"]);
    assert_eq!(doubts(-3, -1), ["the certificate expired on 2027-01-14T08:00:00Z, so clients refuse it: renew it"]);
    let early = doubts(1, 90);
    assert_eq!(early.len(), 1);
    assert!(early[0].starts_with("the certificate is not valid before 2027-01-16T08:00:00Z"), "{early:?}");
    // The last second is one in which it is valid (RFC 5280, section 4.1.2.5).
    assert!(doubts(-1, 0)[0].contains("expires on"));
}

#[test]
fn a_chain_is_doubtful_by_its_order_its_issuers_and_its_usage() {
    let root = ca("root");
    let mut between = params(&[]);
    between.distinguished_name.push(rcgen::DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    between.not_after = OffsetDateTime::from_unix_timestamp(NOW + 5 * DAY).unwrap();
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let (certificate, key) = leaf(&between, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let doubts = |chain: &[&str], key: &str| {
        read(chain.concat().as_bytes(), key.as_bytes()).unwrap().doubts_about_certificate(NOW)
    };
    let in_order = doubts(&[&certificate, &between.pem(), &root.pem()], &key);
    assert_eq!(in_order.len(), 1, "{in_order:?}");
    assert!(in_order[0].starts_with("certificate 2 of the chain expires on"), "{in_order:?}");
    let disordered = doubts(&[&certificate, &root.pem()], &key);
    assert_eq!(disordered.len(), 1, "{disordered:?}");
    assert!(disordered[0].contains("certificate 1 was not issued by certificate 2"), "{disordered:?}");

    let (client, key) = leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let usage = doubts(&[&client], &key);
    assert_eq!(usage.len(), 1, "{usage:?}");
    assert!(usage[0].contains("serverAuth"), "{usage:?}");
    let (any, key) = leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert_eq!(doubts(&[&any], &key), [""; 0]);
    let (first_is_ca, key) = leaf(&root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let is_ca = doubts(&[&first_is_ca], &key);
    assert_eq!(is_ca.len(), 1, "{is_ca:?}");
    assert!(is_ca[0].contains("the first certificate is a CA's"), "{is_ca:?}");
}
