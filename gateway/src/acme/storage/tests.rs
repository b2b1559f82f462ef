use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::tls::{Authorities, ClientSide};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A storage in `folder` for the certificate of `www.example.org`.
fn storage(folder: &Path) -> Storage {
    let ca = folder.join("ca.pem");
    fs::write(&ca, rcgen::generate_simple_self_signed(names(&["ca.example"])).unwrap().cert.pem()).unwrap();
    let tls = ClientSide::new(Authorities::read(&ca).unwrap(), None, "http/1.1").unwrap();
    let settings = Settings {
        certificates: vec![names(&["www.example.org"])],
        email: None,
        directory: "https://acme.example/dir".to_owned(),
        tls: tls.into(),
        profile: None,
        binding: None,
        storage: folder.join("state/acme"),
        retry_delay: std::time::Duration::from_secs(60),
        challenges: vec![Challenge::Http01],
    };
    Storage::open(&settings).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_can_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    let lock = storage.try_lock().unwrap().unwrap();
    storage.write_certificate("a", "pem", &lock).unwrap();
    storage.write_failures("b", Failures { count: 1, retry_at: 2 }).unwrap();
    let credentials = r#"{"id":"https://acme.example/1","key_pkcs8":"AAAA","directory":"https://acme.example/dir"}"#;
    let account = StoredAccount { email: None, credentials: serde_json::from_str(credentials).unwrap() };
    storage.write_account("https://acme.example/dir", &account, &lock).unwrap();
    let _published = storage.publish(Challenge::Http01, ("www.example.org", "token"), "x", &lock).unwrap();
    let mut seen = 0;
    let mut folders = vec![storage.folder.clone()];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{folder:?}");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{path:?}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn one_gateway_at_a_time_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (storage(folder.path()), storage(folder.path()));
    let lock = one.try_lock().unwrap().unwrap();
    assert!(other.try_lock().unwrap().is_none());
    drop(lock);
    assert!(other.try_lock().unwrap().is_some());
}

#[test]
fn challenges_of_one_gateway_are_seen_by_another_until_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (storage(folder.path()), storage(folder.path()));
    let lock = one.try_lock().unwrap().unwrap();
    let place = ("www.example.org", "to-Ken_1");
    let http = one.publish(Challenge::Http01, place, "to-Ken_1.thumbprint", &lock).unwrap();
    let tls = one.publish(Challenge::TlsAlpn01, place, "to-Ken_1.thumbprint", &lock).unwrap();
    assert_eq!(fs::read(other.http_challenges().join("to-Ken_1")).unwrap(), b"to-Ken_1.thumbprint");
    let expected: [u8; 32] = digest(&SHA256, b"to-Ken_1.thumbprint").as_ref().try_into().unwrap();
    assert_eq!(other.digest("www.example.org"), Some(expected));
    assert_eq!(other.digest("elsewhere.example"), None);
    drop((http, tls));
    assert!(!other.http_challenges().join("to-Ken_1").exists());
    assert_eq!(other.digest("www.example.org"), None);
    // As after a crash.
    std::mem::forget(one.publish(Challenge::Http01, place, "x", &lock).unwrap());
    other.clear_challenges(&lock);
    assert!(!other.http_challenges().join("to-Ken_1").exists());
}

#[test]
fn a_server_cannot_choose_the_file_of_a_challenge() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    let lock = storage.try_lock().unwrap().unwrap();
    let long = "a".repeat(MAX_TOKEN + 1);
    for token in ["", "../../evil", "a/b", "/etc/cron.d/evil", "a.b", "\u{e4}", &long] {
        let result = storage.publish(Challenge::Http01, ("www.example.org", token), "x", &lock);
        assert!(result.is_err(), "{token}");
    }
    for name in ["elsewhere.example", "../../evil"] {
        assert!(storage.publish(Challenge::TlsAlpn01, (name, "token"), "x", &lock).is_err(), "{name}");
    }
    for path in ["challenges/http-01", "challenges/tls-alpn-01"] {
        assert_eq!(fs::read_dir(storage.folder.join(path)).unwrap().count(), 0);
    }
}

#[test]
fn a_certificate_ends_the_failures_and_has_a_new_version() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    let lock = storage.try_lock().unwrap().unwrap();
    assert_eq!((storage.stamp("a"), storage.read_failures("a")), (None, Failures::default()));
    let failures = Failures { count: 3, retry_at: 1_800_000_000 };
    storage.write_failures("a", failures).unwrap();
    assert_eq!(storage.read_failures("a"), failures);
    fs::write(storage.failures("a"), "damaged").unwrap();
    assert_eq!(storage.read_failures("a"), Failures::default());
    storage.write_certificate("a", "first", &lock).unwrap();
    assert!(!storage.failures("a").exists());
    let first = storage.stamp("a").unwrap();
    storage.write_certificate("a", "second", &lock).unwrap();
    assert_ne!(storage.stamp("a").unwrap(), first);
    assert_eq!(storage.read_certificate("a").unwrap(), b"second");
}

#[test]
fn a_damaged_account_is_an_error_without_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    assert!(storage.read_account("https://acme.example/dir").unwrap().is_none());
    fs::write(storage.account("https://acme.example/dir"), "hush").unwrap();
    let error = storage.read_account("https://acme.example/dir").err().unwrap().to_string();
    assert!(error.ends_with("it is damaged: remove it for a new account") && !error.contains("hush"), "{error}");
}

#[test]
fn the_id_is_that_of_a_directory_and_a_set_of_names() {
    let of = |directory: &str, list: &[&str]| id(directory, &names(list));
    assert!(of("https://a.example", &["b.example", "a.example"]).starts_with("b.example-"));
    let hash = |id: String| id.rsplit_once('-').map(|(_, hash)| hash.to_owned());
    let first = hash(of("https://a.example", &["a.example", "b.example"]));
    assert_eq!(first, hash(of("https://a.example", &["b.example", "a.example"])));
    assert_ne!(first, hash(of("https://b.example", &["a.example", "b.example"])));
    assert_ne!(first, hash(of("https://a.example", &["a.example"])));
}
