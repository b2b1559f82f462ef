//! The processes themselves: descriptors, notifications, signals.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{Upgraded, is_running};
use crate::program::{command, folder, text};
use crate::support::client::PATIENCE;
use crate::support::{DAY, admin, api, get, until};

/// What the descriptors of a process are, with their number.
fn descriptors(process: u32) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        if let Ok(target) = fs::read_link(entry.unwrap().path()) {
            *all.entry(target.to_string_lossy().into_owned()).or_default() += 1;
        }
    }
    all
}

/// The inodes of the TCP sockets that listen on a port of this machine.
fn listening(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let local = format!(":{port:04X}");
    fields.filter(|all| all[1].ends_with(&local) && all[3] == "0A").map(|all| format!("socket:[{}]", all[9])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_descriptor_accumulates() {
    let (api, admin) = (api().await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[]).await;
    let kinds = |process: u32| {
        // Connections come and go.
        let mut all = descriptors(process);
        all.retain(|target, _| !target.starts_with("socket:"));
        all
    };
    let before = kinds(program.child.id());
    let mut process = 0;
    for _ in 0..3 {
        let old = process;
        process = program.upgrade().await;
        until("the old process has ended", async || old == 0 || !is_running(old)).await;
    }
    program.first_has_ended().await;
    assert_eq!(kinds(process), before);
    for address in [program.ops.port(), program.connect().await.into_stream().get_ref().0.peer_addr().unwrap().port()] {
        let sockets = listening(address);
        assert_eq!(sockets.len(), 1, "one socket listens");
        // To accept on, and to hand over.
        assert_eq!(descriptors(process)[&sockets[0]], 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_notified_of_the_new_main_process_by_the_old_one() {
    let (api, admin) = (api().await, admin().await);
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("notify");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    set_socket_passcred(&notified, true).unwrap();
    // A notification with the id of its sender, by which systemd decides whether to accept it.
    let received = || {
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message =
            recvmsg(&notified, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::empty()).unwrap();
        let sender = control.drain().find_map(|ancillary| match ancillary {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
            _ => None,
        });
        (text(&buffer[..message.bytes]).trim_end().to_owned(), u32::try_from(sender.unwrap()).unwrap())
    };
    let mut program = Upgraded::start(&api, &admin, &[("NOTIFY_SOCKET", path.to_str().unwrap())]).await;
    let first = program.child.id();
    assert_eq!(received(), ("READY=1".to_owned(), first));
    let second = program.upgrade().await;
    let mut both = [received(), received()];
    both.sort();
    assert_eq!(both, [(format!("MAINPID={second}"), first), ("READY=1".to_owned(), second)]);
    program.first_has_ended().await;
    // The old process did not report that the service stops; the new one does.
    assert!(Command::new("kill").arg(second.to_string()).status().unwrap().success());
    assert_eq!(received(), ("STOPPING=1".to_owned(), second));
}

#[test]
fn a_process_that_no_upgrade_started_takes_nothing_over() {
    let folder = folder();
    let run = |marker: String, stdin: Stdio| {
        let mut command = command(folder.path());
        let output = command.args(["--config", "gateway.toml"]).env("HOLODULE_HANDOVER", marker).stdin(stdin).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!folder.path().join("announced.json").exists());
        text(&output.stderr)
    };
    let own = std::process::id().to_string();
    let prefix = "holodule-gateway: HOLODULE_HANDOVER is set, but this process was not started by an upgrade: ";
    assert!(run(own.clone(), Stdio::null()).starts_with(&format!("{prefix}the standard input is not a socket")));
    assert!(run("1x".to_owned(), Stdio::null()).starts_with(&format!("{prefix}its value is not a process id")));
    let unrelated = run("1".to_owned(), Stdio::null());
    assert!(unrelated.starts_with(&format!("{prefix}its value is not the process id of the parent")), "{unrelated}");
    // A socket that sends what an upgrade does not.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.write_all(b"{\"sockets\":{\"version\":0,\"listeners\":[],\"draining\":[]}}").unwrap();
    let version = run(own, Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    assert!(version.contains("of a version that cannot hand over to this one"), "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_an_upgrade_ends_both_processes() {
    let (api, admin) = (api().await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[]).await;
    // It neither becomes ready nor reads its channel.
    program.replace_by("echo $$ > id; exec sleep 600");
    let id = program.folder.path().join("id");
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &program.child.id().to_string()]).status().unwrap().success());
    };
    signal("-USR2");
    let mut successor = None;
    until("the new process has started", async || {
        successor = fs::read_to_string(&id).ok().and_then(|id| id.trim().parse().ok());
        successor.is_some()
    })
    .await;
    signal("-TERM");
    program.first_has_ended().await;
    until("the new process has ended", async || !is_running(successor.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_1_of_a_container_refuses() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let log = folder.path().join("log");
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let mut child = Command::new("unshare")
        .args(namespace)
        .args([env!("CARGO_BIN_EXE_holodule-gateway"), "--config", "gateway.toml"])
        .env_clear()
        .envs([("UPSTREAM_API", &api.address), ("UPSTREAM_ADMIN", &admin.address)])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(&log).unwrap();
    until("it serves", async || lines().contains("\"serving\"")).await;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    assert!(Command::new("kill").args(["-USR2", children.trim()]).status().unwrap().success());
    until("it refuses", async || lines().contains("\"result\":\"refused\"")).await;
    assert!(lines().contains("this is process 1"), "{}", lines());
    // The command does not signal process 1, which would be another one outside the container.
    let announced: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("announced.json")).unwrap()).unwrap();
    let ops = announced["ops"].as_str().unwrap().to_owned();
    let upgrade = command(folder.path()).args(["upgrade", "--ops", &ops]).output().unwrap();
    assert_eq!(upgrade.status.code(), Some(1));
    assert!(text(&upgrade.stderr).contains("process 1"), "{upgrade:?}");
    let mut connection =
        crate::support::client::Connection::open(announced["https"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}
