//! SIGHUP: what can be reloaded and what cannot.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::http;
use crate::program::{Program, folder, wait_for};

/// The number of log lines that contain `what`.
fn lines(folder: &Path, what: &str) -> usize {
    fs::read_to_string(folder.join("log")).unwrap().lines().filter(|line| line.contains(what)).count()
}

/// A part of the access log line of the request below.
const LINE: &str = "\"route\":\"/status\"";

/// A request that is logged in the access log.
async fn status(program: &Program) -> u16 {
    http::send(program.admin(), "GET", "/status", &[], "").await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_changes_the_log_level_without_a_restart() {
    let folder = folder();
    let path = folder.path();
    let file = path.join("backend.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("[log]\nlevel = 'warn'\n");
    let program = Program::start(path, &[("HOLODULE_BACKEND_CONFIG", file.to_str().unwrap())]);
    assert_eq!(status(&program).await, 200);
    // Its line is written, or not, just after it is counted.
    while !http::send(program.admin(), "GET", "/metrics", &[], "").await.body.contains("route=\"/status\"") {}

    write("[log]\nlevel = 'info'\n");
    program.signal("-HUP");
    wait_for("the line of the reload", || (lines(path, "configuration reloaded") == 1).then_some(()));
    assert_eq!(lines(path, "need a restart"), 0);
    assert_eq!(lines(path, LINE), 0, "it was below the level");
    assert_eq!(status(&program).await, 200);
    wait_for("a line of the access log", || (lines(path, LINE) == 1).then_some(()));

    write("drain = 'hush'\n");
    program.signal("-HUP");
    wait_for("the error", || (lines(path, "the new configuration is invalid") == 1).then_some(()));
    assert_eq!((lines(path, "hush"), status(&program).await), (0, 200));

    write("drain = 1\n[log]\nlevel = 'warn'\n");
    program.signal("-HUP");
    wait_for("the note", || (lines(path, "need a restart") == 1).then_some(()));
    let before = lines(path, LINE);
    assert_eq!(status(&program).await, 200);
    assert_eq!(program.terminate(), 0);
    assert_eq!(lines(path, LINE), before, "the level holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_reload_does_not_block_requests_or_the_stop() {
    let folder = folder();
    let path = folder.path();
    let file = path.join("backend.toml");
    fs::write(&file, "").unwrap();
    let program = Program::start(path, &[("HOLODULE_BACKEND_CONFIG", file.to_str().unwrap())]);
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    program.signal("-HUP");
    // This returns when the program has opened the file for reading.
    let mut writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    assert_eq!(status(&program).await, 200);
    writer.write_all(b"[log]\nlevel = 'info'\n").unwrap();
    drop(writer);
    wait_for("the line of the reload", || (lines(path, "configuration reloaded") == 1).then_some(()));
    // The program waits for data that is never written.
    program.signal("-HUP");
    let _writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    assert_eq!(program.terminate(), 0);
}
