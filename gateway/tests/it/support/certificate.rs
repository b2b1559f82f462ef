//! The development CA and a leaf for `localhost`, `127.0.0.1` and `::1`, made by `certs/make`, so that the tests
//! use the same certificates as a developer.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// PEM texts. Each gateway writes its own copy, so that every temporary folder is removed with its test.
pub struct Certificates {
    pub ca: String,
    pub leaf: String,
    pub key: String,
}

/// The certificates, made once for the whole test program.
pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        Certificates { ca: read("ca.pem"), leaf: read("cert.pem"), key: read("key.pem") }
    })
}

fn make(folder: &Path) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs/make");
    let output = Command::new(&program).env("CERTS_DIR", folder).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}
