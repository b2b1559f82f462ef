//! A reload changes what the gateway does from the next request on, all or nothing.

mod connections;
mod refused;
mod services;
mod settings;
mod state;
mod streams;

use std::fs;
use std::process::Command;

use crate::program::{Program, folder};
use crate::support::{admin, api};

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
