//! The commands `health` and `manual`.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::program::{Program, command, folder, succeeds, text};

fn health(folder: &Path, admin: &str, arguments: &[&str]) -> Output {
    // The other keys may be wrong meanwhile.
    let environment = [("ADMIN_ADDR", admin), ("STORE", "edited://"), ("DRAIN", "x")];
    command(folder).arg("health").args(arguments).envs(environment).output().unwrap()
}

#[test]
fn health_reports_the_probes_of_the_running_backend() {
    let folder = folder();
    let socket = format!("unix:{}", folder.path().join("admin.sock").display());
    for address in ["127.0.0.1:0", &socket] {
        let program = Program::start(folder.path(), &[("ADMIN_ADDR", address)]);
        let admin = program.admin().to_string();
        for arguments in [&[][..], &["--ready"]] {
            assert_eq!(succeeds(&health(folder.path(), &admin, arguments)), "");
        }
        assert_eq!(program.terminate(), 0);
        let stopped = health(folder.path(), &admin, &[]);
        assert_eq!(stopped.status.code(), Some(1));
        let reason = text(&stopped.stderr);
        assert!(reason.starts_with("holodule-backend: /healthz: no response from "), "{reason}");
    }
}

#[test]
fn a_backend_without_its_store_is_alive_but_not_ready() {
    let folder = folder();
    // Nothing listens there.
    let store = "mongodb://127.0.0.1:1/holoduledb?serverSelectionTimeoutMS=100";
    let program = Program::start(folder.path(), &[("STORE", store), ("STORE_OPERATION_TIMEOUT", "0.2")]);
    let admin = program.admin().to_string();
    succeeds(&health(folder.path(), &admin, &[]));
    let unready = health(folder.path(), &admin, &["--ready"]);
    assert_eq!(unready.status.code(), Some(1));
    let reason = text(&unready.stderr);
    assert!(reason.starts_with("holodule-backend: /readyz: the store "), "{reason}");
}

#[test]
fn health_needs_a_valid_address_only() {
    let folder = folder();
    let wrong = health(folder.path(), "localhost", &[]);
    assert_eq!(wrong.status.code(), Some(1));
    let report = text(&wrong.stderr);
    assert!(report.contains("has 1 problem:\n  admin_addr, from ADMIN_ADDR: "), "{report}");
}

#[test]
fn the_manual_describes_every_command() {
    let folder = folder();
    succeeds(&command(folder.path()).args(["manual", "manual"]).output().unwrap());
    let read = |name: &str| fs::read_to_string(folder.path().join("manual").join(name)).unwrap();
    assert!(read("man/holodule-backend.1").contains("holodule\\-backend\\-import(1)"));
    assert!(read("man/holodule-backend-user-role-add.1").contains("\\-\\-admin"));
    for name in ["holodule-backend.bash", "_holodule-backend", "holodule-backend.fish"] {
        assert!(read(&format!("completions/{name}")).contains("restore"), "{name}");
    }
}
