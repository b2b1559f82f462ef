//! Signals that arrive while the program starts.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::program::{command, folder};
use crate::support::client::PATIENCE;

/// The signals with a handler, as in proc(5): bit n - 1 stands for signal n.
fn caught_signals(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn handlers_are_installed_before_the_addresses_are_announced() {
    let folder = folder();
    let mut child = command(folder.path())
        .args(["--config", "gateway.toml"])
        .env("LOGIN_ENABLED", "false")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    // No pause: the check must follow the announcement at once.
    while !folder.path().join("announced.json").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it has exited");
        assert!(started.elapsed() < PATIENCE, "the addresses were not announced");
        std::thread::yield_now();
    }
    let caught = caught_signals(child.id());
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    for (name, number) in [("SIGHUP", 1), ("SIGINT", 2), ("SIGTERM", 15)] {
        assert_ne!(caught & (1 << (number - 1)), 0, "{name} has no handler: {caught:x}");
    }
    assert!(kill.success() && status.success(), "{status}");
}
