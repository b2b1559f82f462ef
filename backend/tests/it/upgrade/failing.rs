//! New processes that fail at each step. The old one continues to serve.

use std::env;
use std::process::Command;
use std::time::Duration;

use holodule_backend::store::{Settings, Store};
use holodule_handover::Takeover;
use rustix::process::{Signal, getpid, kill_process};

use super::load::Load;
use super::running::{BINARY, Running};
use crate::program::{folder, text};

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    unreachable!("killed");
}

/// What the new process does: each is started by a test outside this module.
mod successor {
    use super::*;

    fn begin() -> Takeover {
        Takeover::begin().unwrap().expect("run by the tests only")
    }

    fn open() -> Store {
        let url = format!("embedded:{}", env::current_dir().unwrap().join("store.redb").display()).parse().unwrap();
        let settings =
            Settings { url, operation_timeout: Duration::from_secs(60), max_connections: 4, text_cache: 1 << 20 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Store::take_over(&settings, Duration::ZERO)).unwrap()
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn has_the_sockets() {
        let _takeover = begin();
        die();
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn waits_for_the_store() {
        let takeover = begin();
        std::thread::spawn(move || takeover.request_release());
        std::thread::sleep(Duration::from_millis(2));
        die();
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn may_open_the_store() {
        let takeover = begin();
        takeover.request_release().unwrap();
        die();
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn has_opened_the_store() {
        let takeover = begin();
        takeover.request_release().unwrap();
        let _store = open();
        die();
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn keeps_the_store_open() {
        let takeover = begin();
        takeover.request_release().unwrap();
        let _store = open();
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn serves() {
        let takeover = begin();
        takeover.request_release().unwrap();
        let _store = open();
        takeover.ready().unwrap();
        die();
    }
}

fn script(step: &str) -> String {
    let test = env::current_exe().unwrap();
    let name = format!("upgrade::failing::successor::{step}");
    format!("#!/bin/sh\nexec {} --exact {name} --ignored --nocapture\n", test.display())
}

#[test]
fn a_new_process_killed_at_any_step_loses_no_request_and_no_write() {
    let folder = folder();
    let mut program = Running::start(folder.path(), &[]);
    let load = Load::start(&program);
    let process = program.process;
    let killed = "ended before it was ready (signal: 9 (SIGKILL))";
    for (program_text, expected) in [
        ("#!/bin/sh\nkill -KILL $$\n".to_owned(), killed),
        (script("has_the_sockets"), killed),
        (script("waits_for_the_store"), killed),
        (script("may_open_the_store"), killed),
        (script("has_opened_the_store"), killed),
        // Not that of the upgrade, which is 60 s.
        (script("keeps_the_store_open"), "was not ready"),
        ("#!/bin/sh\necho no >&2; exit 7\n".to_owned(), "ended before it was ready (exit status: 7)"),
    ] {
        load.progress();
        program.next_program(&program_text);
        let output = program.upgrade();
        assert!(!output.status.success(), "{program_text}");
        let error = text(&output.stderr);
        assert!(error.contains("continues to serve: the upgrade failed: ") && error.contains(expected), "{error}");
        load.progress();
        assert_eq!(program.page().process, process);
    }
    assert!(program.get("/metrics").contains("\nbackend_upgrades_total{result=\"failed\"} 7\n"));
    // After all that, an upgrade succeeds.
    program.next_program(BINARY);
    program.upgrades();
    load.progress();
    let result = load.stop();
    assert_eq!((result.failures, result.closed), (Vec::new(), 0));
    assert_eq!(program.missing(&result.acknowledged), Vec::<String>::new());
    program.stop();
}

#[test]
fn an_invalid_configuration_and_a_port_in_use_are_reported_before_the_store_is_closed() {
    let folder = folder();
    let config = folder.path().join("backend.toml");
    std::fs::write(&config, "").unwrap();
    let program = Running::start(folder.path(), &[("HOLODULE_BACKEND_CONFIG", "backend.toml")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = format!("exec env API_ADDR={} {BINARY}", listener.local_addr().unwrap());
    for (content, run, expected) in
        [("nonsense = 1", format!("exec {BINARY}"), "nonsense"), ("", in_use, "Address already in use")]
    {
        std::fs::write(&config, content).unwrap();
        program.next_program(&format!("#!/bin/sh\n{run} \"$@\"\n"));
        let output = program.upgrade();
        let error = text(&output.stderr);
        assert!(error.contains("the upgrade failed: ") && error.contains(expected), "{error}");
    }
    assert!(!program.log().contains("opened again"), "{}", program.log());
    program.stop();
}

#[test]
fn a_new_process_killed_while_it_serves_loses_no_acknowledged_write() {
    let folder = folder();
    let mut program = Running::start(folder.path(), &[]);
    let load = Load::start(&program);
    load.progress();
    let old = program.process;
    program.next_program(&script("serves"));
    program.signal("-USR2");
    program.ended(old);
    // Connections that were waiting are closed.
    let acknowledged = load.stop().acknowledged;
    drop(program);
    std::fs::remove_file(folder.path().join("program")).unwrap();
    std::fs::remove_file(folder.path().join("announced.json")).unwrap();
    let restarted = Running::start(folder.path(), &[]);
    assert_eq!(restarted.missing(&acknowledged), Vec::<String>::new());
    restarted.stop();
}

#[test]
fn a_program_is_not_started_as_a_new_process_by_its_environment() {
    let folder = folder();
    let mut command = Command::new(BINARY);
    let command = super::running::with_environment(&mut command, folder.path());
    assert!(!command.env("HOLODULE_HANDOVER", "1").status().unwrap().success());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("this process was not started by an upgrade"), "{log}");
}
