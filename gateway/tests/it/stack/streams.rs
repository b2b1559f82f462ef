//! ops/WIRE.md: a stream ends within a second of a change of its user's account, with the feed of the real backend, also
//! if the change was made in MongoDB itself.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::doc;

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use super::stored_user::StoredUser;
use crate::support::token;

const ROUTE: &str = "[{ path = '/events', methods = ['GET'], service = 'sse', require = { any = ['viewer'] } }]";

/// What the contract promises, after the change has been made.
const AT_MOST: Duration = Duration::from_secs(1);

/// A service that sends an event every 50 ms to each client until it leaves. Returns its address.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    // One read has the whole head; a health check is closed without a response.
    let mut head = [0; 4096];
    let Ok(1..) = stream.read(&mut head) else { return };
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut written = stream.write_all(head);
    while written.is_ok() {
        std::thread::sleep(Duration::from_millis(50));
        written = stream.write_all(b"9\r\ndata: 1\n\n\r\n");
    }
}

fn start(store: &str) -> Stack {
    let services = format!("[{{ name = 'sse', addresses = ['{}'], max_connections = 32 }}]", service());
    let gateway = [("JWT_SECRET_KEY", token::secret()), ("ROUTE", ROUTE.to_owned()), ("SERVICE", services)];
    let stack = Stack::start(&[("STORE", store.to_owned())], &gateway, None);
    stack.load();
    stack.command(&["user", "role", "add", "user01", "viewer"], "");
    stack
}

/// A client that reads a stream to its end, and fails unless that is in order.
struct Reader {
    curl: Child,
    received: std::path::PathBuf,
}

impl Reader {
    /// Opens a stream and waits for the first event.
    fn open(stack: &Stack, version: &str, token: &str) -> Self {
        let port = stack.gateway.address("https").rsplit_once(':').unwrap().1;
        let received = stack.folder.path().join(format!("received{version}"));
        let curl = Command::new("curl")
            .args(["--silent", "--fail", "--no-buffer", version, "--max-time", "60", "--cacert"])
            .arg(stack.folder.path().join("ca.pem"))
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .arg(format!("https://localhost:{port}/events"))
            .stdout(std::fs::File::create(&received).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let reader = Self { curl, received };
        wait_for("the first event", || (std::fs::metadata(&reader.received).unwrap().len() > 0).then_some(()));
        reader
    }

    /// Waits for the end of the stream, and returns when it was.
    fn ended(mut self) -> Instant {
        let status = self.curl.wait().unwrap();
        assert!(status.success(), "the stream was not ended in order: {status}");
        Instant::now()
    }
}

#[expect(clippy::print_stdout, reason = "the duration is shown with --nocapture")]
fn assert_ends(stack: &Stack, name: &str, token: &str, change: impl FnOnce()) {
    let readers = ["--http1.1", "--http2"].map(|version| Reader::open(stack, version, token));
    change();
    let changed = Instant::now();
    for reader in readers {
        let took = reader.ended().saturating_duration_since(changed);
        println!("{name}: ended {} ms after the change", took.as_millis());
        assert!(took < AT_MOST, "{name}: {took:?}");
    }
}

fn assert_changes_end_streams(store: &str) {
    let stack = start(store);
    for (name, change, restore) in [
        ("disable", &["user", "disable", "user01"][..], &["user", "enable", "user01"][..]),
        ("passwd", &["user", "passwd", "user01"], &[]),
        ("role", &["user", "role", "remove", "user01", "viewer"], &["user", "role", "add", "user01", "viewer"]),
        ("delete", &["user", "delete", "user01"], &["user", "add", "user01"]),
    ] {
        let token = stack.token("user01", "password01");
        assert_ends(&stack, name, &token, || {
            stack.command(change, "password01\n");
        });
        if !restore.is_empty() {
            stack.command(restore, "password01\n");
        }
    }
    stack.command(&["user", "role", "add", "user01", "viewer"], "");
    let token = stack.token("user01", "password01");
    assert_ends(&stack, "logout", &token, || {
        let answer = stack.curl(&["-X", "POST", "-H", &format!("Authorization: Bearer {token}")], "/auth/logout");
        assert_eq!(answer.status, 204);
    });
}

#[test]
fn changes_on_the_embedded_store() {
    assert_changes_end_streams("embedded:store.redb");
}

#[test]
fn changes_on_mongodb() {
    assert_changes_end_streams(&Server::shared().fresh_url());
}

#[test]
fn changes_in_mongodb_itself() {
    let url = Server::shared().fresh_url();
    let stack = start(&url);
    let user = StoredUser::at(&url);
    let token = stack.token("user01", "password01");
    assert_ends(&stack, "disabled", &token, || {
        user.change(doc! {"$set": {"disabled": true}});
    });
}

#[test]
fn a_restart_of_the_backend_ends_no_stream_and_a_change_after_it_does() {
    let mut stack = start("embedded:store.redb");
    let token = stack.token("user01", "password01");
    let reader = Reader::open(&stack, "--http1.1", &token);
    stack.restart_backend();
    wait_for("the backend", || (stack.log_in("user01", "password01").status == 200).then_some(()));
    let length = || std::fs::metadata(&reader.received).unwrap().len();
    let before = length();
    wait_for("further events", || (length() > before + 100).then_some(()));
    stack.command(&["user", "disable", "user01"], "");
    let changed = Instant::now();
    let took = reader.ended().saturating_duration_since(changed);
    assert!(took < AT_MOST, "{took:?}");
}
