//! A reload changes what the gateway does from the next request on, all or nothing.

mod connections;
mod refused;
mod services;
mod settings;
mod state;
mod streams;

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::program::{Program, folder};
use crate::support::{DAY, admin, api, get, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_reload_does_not_block_requests_or_the_stop() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let settings = fs::read(&file).unwrap();
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    program.signal("-HUP");
    // This returns when the program has read the file.
    fs::write(&file, &settings).unwrap();
    let mut connection = program.connect().await;
    assert_eq!(connection.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 401);
    // The program waits for data that is never written.
    program.signal("-HUP");
    let _writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    assert_eq!(connection.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 401);
    let log = program.stop();
    assert_eq!(log.matches("the configuration was reloaded").count(), 1, "{log}");
}

#[tokio::test]
async fn events_are_logged_at_the_level_of_the_last_reload() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let write = |number: u32, log: &str| {
        fs::write(&file, format!("hsts.max_age = {number}\n{settings}\n[log]\n{log}\n")).unwrap();
    };
    write(10, "level = 'warn'");
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    let mut connection = program.connect().await;
    // Reloads follow each other, and each logs one event after its level has changed: at WARN if an upgrade is needed.
    for (number, log) in [
        (11, "level = 'warn'"),
        (12, "level = 'info'"),
        (13, "level = 'warn'\nformat = 'json'"),
        (14, "level = 'error'\nformat = 'json'"),
        (15, "level = 'info'"),
    ] {
        write(number, log);
        program.signal("-HUP");
        let expected = format!("max-age={number}");
        let reload = async || connection.exchange(get(DAY, "")).await.value("strict-transport-security") == expected;
        until("the reload has an effect", reload).await;
    }
    let log = program.stop();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let reloads = lines.filter(|line| line["changed"].is_string());
    let logged: Vec<_> =
        reloads.map(|line| format!("{} {}", line["level"], line["changed"]).replace('"', "")).collect();
    let both = "hsts.max_age, log.format, log.level";
    assert_eq!(logged, ["INFO hsts.max_age, log.level", &format!("WARN {both}"), &format!("INFO {both}")], "{log}");
}
