//! The commands `health` and `manual`.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::program::{Program, command, folder, text};
use crate::support::{admin, api, until};

fn health(folder: &Path, ops: &str, arguments: &[&str]) -> Output {
    // As a container runs it: with the environment of the service. The other keys may be wrong meanwhile.
    let environment = [("OPS_ADDR", ops), ("TLS_CERTIFICATE", "edited.pem"), ("TOKEN_LIFETIME", "0")];
    command(folder).args(["--config", "gateway.toml", "health"]).args(arguments).envs(environment).output().unwrap()
}

#[tokio::test]
async fn health_reports_the_probes_of_the_running_gateway() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    let ops = program.ops().to_owned();
    let alive = health(folder.path(), &ops, &[]);
    assert!(alive.status.success(), "{alive:?}");
    assert_eq!((text(&alive.stdout), text(&alive.stderr)), (String::new(), String::new()));
    until("the gateway is ready", async || health(folder.path(), &ops, &["--ready"]).status.success()).await;
    program.stop();
    let stopped = health(folder.path(), &ops, &[]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(text(&stopped.stderr).starts_with(&format!("holodule-gateway: no response from {ops}: ")), "{stopped:?}");
}

#[tokio::test]
async fn a_gateway_without_a_backend_is_alive_but_not_ready() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let unreachable = [("UPSTREAM_API", "unix:/nonexistent"), ("UPSTREAM_ADMIN", "unix:/nonexistent")];
    let program = Program::start(folder.path(), &api, &admin, &unreachable).await;
    assert!(health(folder.path(), program.ops(), &[]).status.success());
    let unready = health(folder.path(), program.ops(), &["--ready"]);
    assert_eq!(unready.status.code(), Some(1));
    assert!(text(&unready.stderr).contains(" returned 503: {"), "{unready:?}");
}

#[test]
fn health_needs_a_valid_address_only() {
    let folder = folder();
    let wrong = health(folder.path(), "localhost:9180", &[]);
    assert_eq!(wrong.status.code(), Some(1));
    let report = text(&wrong.stderr);
    assert!(report.contains("has 1 problem:\n  ops_addr, from OPS_ADDR: must be an IP address"), "{report}");
}

#[test]
fn the_manual_describes_every_command_and_option() {
    let folder = folder();
    let written = command(folder.path()).args(["manual", "manual"]).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let read = |name: &str| fs::read_to_string(folder.path().join("manual").join(name)).unwrap();
    let page = read("man/holodule-gateway.1");
    for part in ["\\-\\-config", "HOLODULE_GATEWAY_CONFIG", "holodule\\-gateway\\-health(1)"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(read("man/holodule-gateway-check.1").contains("\\-\\-strict"));
    assert!(read("man/holodule-gateway-static-token-new.1").contains("\\-\\-scopes"));
    for name in ["holodule-gateway.bash", "_holodule-gateway", "holodule-gateway.fish"] {
        let completions = read(&format!("completions/{name}"));
        assert!(completions.contains("static-token") && completions.contains("strict"), "{completions}");
    }
}
