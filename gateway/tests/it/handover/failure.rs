//! Upgrades that fail: the running process continues to serve, and reports the reason.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Upgraded;
use crate::support::backend::{Backend, Step};
use crate::support::revocation::RevocationStub;
use crate::support::{DAY, DAY_BODY, admin, api, get, serve_day, until};

/// Fails unless the first process serves.
async fn assert_serves(program: &Upgraded, failures: f64) {
    assert_eq!(program.page().await.process, program.child.id());
    let answer = program.connect().await.exchange(get(DAY, "")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
    assert_eq!(program.metric("gateway_upgrades_total{result=\"failed\"}").await, failures);
    assert_eq!(program.announced().unwrap()["process"], program.child.id());
    let (status, _) = program.ops("/readyz").await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_crashes_leaves_the_old_process_serving() {
    let (api, admin) = (api().await, admin().await);
    let program = Upgraded::start(&api, &admin, &[]).await;
    let mut open = program.connect().await;
    assert_eq!(open.exchange(get(DAY, "")).await.status, 200);
    for (script, status) in
        [("exit 7", "exit status: 7"), ("exit 0", "exit status: 0"), ("kill -9 $$", "signal: 9 (SIGKILL)")]
    {
        program.replace_by(script);
        let reason = program.fail_to_upgrade().await;
        assert_eq!(reason, format!("failed: the new process ended before it was ready ({status})"));
    }
    std::fs::remove_file(program.folder.path().join(super::PROGRAM)).unwrap();
    let reason = program.fail_to_upgrade().await;
    assert_eq!(reason, "failed: the new process cannot be started: No such file or directory (os error 2)");
    assert_serves(&program, 4.0).await;
    assert_eq!(open.exchange(get(DAY, "")).await.status, 200, "the connection is still open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_whose_result_cannot_be_written_is_reported_as_done() {
    let (api, admin) = (api().await, admin().await);
    let program = Upgraded::start(&api, &admin, &[]).await;
    let before = program.page().await.process;
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program.try_upgrade_to(full.into()).await;
    assert_ne!(program.page().await.process, before);
    assert_eq!(output.status.code(), Some(1));
    let expected = "holodule-gateway: done, but the result cannot be written: No space left on device (os error 28)\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_not_valid_is_reported() {
    let (api, admin) = (api().await, admin().await);
    let program = Upgraded::start(&api, &admin, &[]).await;
    program.configure("drain_timeout = -1\nstrip_prefix = ['/a/']");
    let reason = program.fail_to_upgrade().await;
    let expected =
        "failed: the new process ended before it was ready (exit status: 1): the configuration has 2 problems:";
    assert!(reason.starts_with(expected), "{reason}");
    assert!(reason.contains("drain_timeout: ") && reason.contains("strip_prefix: "), "{reason}");
    assert_serves(&program, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_bound_is_reported() {
    let (api, admin) = (api().await, admin().await);
    let program = Upgraded::start(&api, &admin, &[]).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    program.configure(&format!("http_addr = '{}'", taken.local_addr().unwrap()));
    let reason = program.fail_to_upgrade().await;
    assert!(reason.contains("http_addr: cannot listen on 127.0.0.1:"), "{reason}");
    assert_serves(&program, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_become_ready_is_killed() {
    let (revocation, admin) = RevocationStub::start().await;
    let api = api().await;
    let environment = [("REVOCATION_ENABLED", "true"), ("UPGRADE_TIMEOUT", "1")];
    let program = Upgraded::start(&api, &admin, &environment).await;
    revocation.set_heartbeats(false);
    let reason = program.fail_to_upgrade().await;
    let killed = "failed: the new process was not ready after 1 s and was killed: ";
    assert_eq!(reason, format!("{killed}the revocation feed is not connected"));
    revocation.set_heartbeats(true);
    assert_serves(&program, 1.0).await;

    // A service that is required and was never reached.
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let route = "methods = ['GET'], path = '/x', service = 'app'";
    program.configure(&format!(
        "service = [{{ name = 'app', addresses = ['{unused}'], required = true }}]\n\
         route = [{{ methods = ['GET'], path = '/holodules/{{day}}' }}, {{ name = 'x', {route} }}]"
    ));
    let reason = program.fail_to_upgrade().await;
    assert_eq!(reason, format!("{killed}the upstream app has not responded"));
    assert_serves(&program, 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_two_old_processes_drain() {
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let api = Backend::start(move |seen| [vec![Step::WaitFor(Arc::clone(&held))], serve_day(seen)].concat()).await;
    let admin = admin().await;
    let mut program = Upgraded::start(&api, &admin, &[("DRAIN_TIMEOUT", "60")]).await;
    let mut pending = Vec::new();
    let mut processes = vec![program.child.id()];
    for drained in 0..3 {
        let mut connection = program.connect().await;
        connection.send(get(DAY, "")).await;
        until("the backend has the request", async || api.seen().len() == drained + 1).await;
        pending.push(connection);
        if drained < 2 {
            processes.push(program.upgrade().await);
        }
    }
    let reason = program.fail_to_upgrade().await;
    assert_eq!(reason, "refused: 2 earlier processes still drain, at most 2 may: try again later");
    assert_eq!(program.metric("gateway_upgrades_total{result=\"refused\"}").await, 1.0);
    let page = program.page().await;
    assert_eq!((page.process, page.draining.as_slice()), (processes[2], &processes[..2]));

    release.add_permits(3);
    for connection in &mut pending {
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    program.first_has_ended().await;
    until("the old processes have ended", async || program.page().await.draining.is_empty()).await;
    program.upgrade().await;
}
