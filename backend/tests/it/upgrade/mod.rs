//! Upgrades in place of the real program.

mod failing;
mod killed;
mod load;
mod running;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::mongod::Server;
use crate::program::{folder, text};
use crate::service::holodule;
use load::Load;
use running::Running;

/// Each upgrade has requests on kept-alive connections before, during and after it.
const UPGRADES: usize = 4;

fn upgrades_lose_nothing(environment: &[(&str, &str)], connections_stay: bool) {
    let folder = folder();
    let mut program = Running::start(folder.path(), environment);
    let load = Load::start(&program);
    for _ in 0..UPGRADES {
        load.progress();
        let old = program.process;
        program.upgrades();
        assert_ne!(program.process, old);
        program.ended(old);
    }
    load.progress();
    let page = program.get("/metrics");
    assert!(page.contains("\nbackend_upgrades_total{result=\"succeeded\"} 1\n"), "{page}");
    assert!(page.contains("\nbackend_draining_processes 0\n"), "{page}");
    let result = load.stop();
    assert_eq!(result.failures, Vec::<String>::new());
    // Only a response during an upgrade may announce the end of its connection, and none does.
    assert!(!connections_stay || result.closed == 0, "{} connections were closed", result.closed);
    assert_eq!(program.missing(&result.acknowledged), Vec::<String>::new());
    program.stop();
}

#[test]
fn upgrades_on_the_embedded_store_lose_no_request_no_write_and_no_connection() {
    upgrades_lose_nothing(&[], true);
}

#[test]
fn upgrades_on_mongodb_lose_no_request_no_write_and_no_connection() {
    let url = Server::shared().fresh_url();
    upgrades_lose_nothing(&[("STORE", &url)], true);
}

#[test]
fn upgrades_on_unix_sockets_keep_the_files_of_the_sockets() {
    let folder = folder();
    let at = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let (api, admin) = (at("api.sock"), at("admin.sock"));
    let mut program = Running::start(folder.path(), &[("API_ADDR", &api), ("ADMIN_ADDR", &admin)]);
    for _ in 0..2 {
        let old = program.process;
        program.upgrades();
        program.ended(old);
        assert!(program.get("/metrics").contains("backend_upgrades_total"));
    }
    program.stop();
    assert!(!folder.path().join("api.sock").exists() && !folder.path().join("admin.sock").exists());
}

#[test]
fn an_upgrade_whose_result_cannot_be_written_is_reported_as_done() {
    let folder = folder();
    let mut program = Running::start(folder.path(), &[]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program.upgrade_to(full.into());
    let process = program.page().process;
    assert_ne!(process, program.process, "{}", program.log());
    program.process = process;
    assert_eq!(output.status.code(), Some(1));
    let expected = "holodule-backend: done, but the result cannot be written: No space left on device (os error 28)\n";
    assert_eq!(text(&output.stderr), expected);
    program.stop();
}

#[test]
fn a_request_in_flight_is_answered_by_the_old_process_and_a_third_process_is_refused() {
    let url = Server::shared().fresh_url();
    let folder = folder();
    let mut program = Running::start(folder.path(), &[("STORE", &url)]);
    let mut uploads = Vec::new();
    for _ in 0..2 {
        uploads.push(begin_upload(&program, 2));
        program.upgrades();
    }
    let refused = program.upgrade();
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("the upgrade refused: 2 earlier processes still drain"), "{refused:?}");
    let page = program.get("/metrics");
    assert!(page.contains("\nbackend_draining_processes 2\n"), "{page}");
    assert!(page.contains("\nbackend_upgrades_total{result=\"refused\"} 1\n"), "{page}");
    for mut upload in uploads {
        upload.write_all(b"{}").unwrap();
        let mut response = vec![0; 4096];
        let length = upload.read(&mut response).unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 400 "), "{}", text(&response[..length]));
        // The connection continues at the new process.
        upload.write_all(b"GET /upgrade HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let length = upload.read(&mut response).unwrap();
        let expected = format!("\"process\":{}", program.process);
        assert!(text(&response[..length]).contains(&expected), "{}", text(&response[..length]));
    }
    program.upgrades();
    program.stop();
}

/// An upload on the admin listener that lacks its body, which the handler reads.
fn begin_upload(program: &Running, length: usize) -> TcpStream {
    let mut upload = TcpStream::connect(program.admin_address()).unwrap();
    let head = "PUT /holodules/video000001 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue";
    upload.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    let mut expected = [0; 25];
    upload.read_exact(&mut expected).unwrap();
    assert_eq!(text(&expected), "HTTP/1.1 100 Continue\r\n\r\n");
    upload
}

fn read_response(stream: &mut TcpStream) -> String {
    let mut response = vec![0; 4096];
    let length = stream.read(&mut response).unwrap();
    text(&response[..length])
}

#[test]
fn the_embedded_store_is_closed_after_an_upload_and_others_are_served_until_then() {
    let folder = folder();
    let mut program = Running::start(folder.path(), &[]);
    let body = serde_json::to_string(&holodule(1, "20201209 230000")).unwrap();
    let mut upload = begin_upload(&program, body.len());
    let old = program.process;
    program.signal("-USR2");
    program.until_logged("starting a new process");
    for _ in 0..20 {
        assert!(program.get("/holodules?format=ndjson").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(program.page().process, old);
    upload.write_all(body.as_bytes()).unwrap();
    assert!(read_response(&mut upload).starts_with("HTTP/1.1 201 "));
    program.ended(old);
    program.process = program.page().process;
    assert_eq!(program.missing(&["video000001".to_owned()]), Vec::<String>::new());
    program.stop();
}

#[test]
fn an_upload_that_takes_too_long_is_refused_after_the_embedded_store_was_closed() {
    let folder = folder();
    let mut program = Running::start(folder.path(), &[("DRAIN", "2")]);
    let body = serde_json::to_string(&holodule(1, "20201209 230000")).unwrap();
    let mut upload = begin_upload(&program, body.len());
    program.upgrades();
    upload.write_all(body.as_bytes()).unwrap();
    let refused = read_response(&mut upload);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    program.until_logged("another process has taken over");
    assert_eq!(program.missing(&["video000001".to_owned()]), ["video000001"]);
    program.stop();
}

#[test]
fn a_stop_during_an_upgrade_ends_both_processes() {
    let folder = folder();
    let program = Running::start(folder.path(), &[]);
    // It never is ready.
    program.next_program("#!/bin/sh\nexec sleep 600\n");
    program.signal("-USR2");
    program.until_logged("starting a new process");
    program.stop();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("this process is stopping"), "{log}");
}
