//! Old processes that are killed at each step. The new one serves, or ends.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use holodule_backend::server::Address;
use holodule_backend::store::{ClosedStore, Settings, Store};
use holodule_handover::{Host, Listening, Program, Upgrader, read_page};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Runtime;

use super::running::{BINARY, announced, is_running, signal, with_environment};
use crate::program::{folder, wait_for};
use crate::service::holodule;

/// The variable with the step at which the old process is killed.
const STEP: &str = "HOLODULE_TEST_STEP";
/// Writes of the old process.
const WRITES: u32 = 20;

fn die() {
    kill_process(getpid(), Signal::KILL).unwrap();
}

/// The old process.
struct Old {
    step: String,
    runtime: Runtime,
    store: Store,
    closed: Option<ClosedStore>,
}

impl Host for Old {
    fn release(&mut self) -> Result<(), String> {
        if self.step == "asked" {
            die();
        }
        self.closed = Some(self.runtime.block_on(self.store.close(Duration::from_secs(60))).unwrap());
        if self.step == "closed" {
            die();
        }
        Ok(())
    }

    /// Called before the new process is notified.
    fn ready_by(&self) -> Option<Instant> {
        if let Some(delay) = self.step.strip_prefix("after ") {
            let delay = Duration::from_millis(delay.parse().unwrap());
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                die();
            });
        }
        None
    }
}

/// Waits for a child of this process, and writes its id to a file.
fn note_child() {
    let child = wait_for("a child", || {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        threads
            .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default())
            .find(|ids| !ids.is_empty())
    });
    fs::write("child", child.trim()).unwrap();
}

#[test]
#[ignore = "run as the old process by other tests"]
fn old_process() {
    let step = env::var(STEP).unwrap();
    let runtime = Runtime::new().unwrap();
    let url = format!("embedded:{}", env::current_dir().unwrap().join("store.redb").display()).parse().unwrap();
    let settings =
        Settings { url, operation_timeout: Duration::from_secs(60), max_connections: 4, text_cache: 1 << 20 };
    let store = runtime.block_on(Store::open(&settings)).unwrap();
    for number in 0..WRITES {
        let entry = holodule_backend::model::ValidHolodule::new(holodule(number, "20201209 230000")).unwrap();
        runtime.block_on(store.upsert(vec![entry])).unwrap();
    }
    let listening = |name: &str| {
        let any = "127.0.0.1:0".parse().unwrap();
        let address = holodule_handover::Address::Tcp(any);
        Listening { name: name.to_owned(), address, socket: TcpListener::bind(any).unwrap().into() }
    };
    let upgrader = Upgrader::new(Program::new(BINARY, [""; 0]), Default::default(), Duration::from_secs(60));
    let kill_at_start = step == "started";
    let mut old = Old { step, runtime, store, closed: None };
    let upgrading = std::thread::spawn(move || {
        let upgraded = upgrader.upgrade(&[listening("api_addr"), listening("admin_addr")], &mut old);
        // The last step, unless it was not killed before by mistake.
        assert!(upgraded.is_ok() && (old.step == "serving" || old.step.starts_with("after ")), "{upgraded:?}");
        die();
    });
    if kill_at_start {
        note_child();
        die();
    }
    upgrading.join().unwrap();
}

/// Returns after the old process was killed at `step`.
fn killed_at(step: &str, folder: &Path) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "upgrade::killed::old_process", "--ignored", "--nocapture"]);
    let mut old = with_environment(&mut command, folder).env(STEP, step).spawn().unwrap();
    let status = old.wait().unwrap();
    let log = || fs::read_to_string(folder.join("log")).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{step}: {}", log());
}

#[test]
fn a_new_process_whose_predecessor_is_killed_serves_all_acknowledged_writes() {
    for step in ["asked", "closed", "after 0", "after 1", "after 3", "after 10", "serving"] {
        let folder = folder();
        killed_at(step, folder.path());
        let [api, admin] = announced(folder.path());
        let new = read_page(&admin.into()).unwrap().process;
        let Address::Tcp(api) = api else { panic!("{api}") };
        let day = "GET /holodules/20201209 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut response = String::new();
        let mut stream = std::net::TcpStream::connect(api).unwrap();
        std::io::Write::write_all(&mut stream, day.as_bytes()).unwrap();
        std::io::Read::read_to_string(&mut stream, &mut response).unwrap();
        for number in 0..WRITES {
            assert!(response.contains(&format!("video{number:06}")), "{step}: {number} is missing in {response}");
        }
        signal("-TERM", new);
        wait_for("the end", || (!is_running(new)).then_some(()));
    }
}

#[test]
fn a_new_process_whose_predecessor_is_killed_at_once_ends_or_serves() {
    let folder = folder();
    killed_at("started", folder.path());
    let new = fs::read_to_string(folder.path().join("child")).unwrap().parse().unwrap();
    wait_for("the end, or the start", || {
        (!is_running(new) || folder.path().join("announced.json").exists()).then_some(())
    });
    if is_running(new) {
        signal("-TERM", new);
        wait_for("the end", || (!is_running(new)).then_some(()));
    }
}
