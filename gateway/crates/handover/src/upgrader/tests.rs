//! The new process is this test program, which runs one of the ignored tests in `successor`, or a shell.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::*;
use crate::draining::Predecessor;
use crate::listening::Address;
use crate::takeover::{NotTaken, Takeover};

const ANY: &str = "127.0.0.1:0";

/// The new process: each is started by a test outside this module.
mod successor {
    use super::*;

    fn begin() -> Takeover {
        Takeover::begin().unwrap().expect("run by the tests only")
    }

    /// Answers one connection on the listener `public` with the ids of the draining processes, then exits.
    #[test]
    #[ignore = "run as the new process by other tests"]
    fn serves_one_connection() {
        let mut takeover = begin();
        assert!(takeover.take_tcp("other", ANY.parse().unwrap()).is_none());
        let public = takeover.take_tcp("public", ANY.parse().unwrap()).unwrap();
        let draining = takeover.draining();
        takeover.waiting("nothing");
        takeover.ready().unwrap();
        let (mut client, _) = public.accept().unwrap();
        write!(client, "{:?}", draining.processes()).unwrap();
    }

    /// Reports what it waits for, and is never ready.
    #[test]
    #[ignore = "run as the new process by other tests"]
    fn never_is_ready() {
        let takeover = begin();
        takeover.waiting("the moon");
        drop(takeover.request_release());
        thread::sleep(Duration::from_secs(600));
    }

    #[test]
    #[ignore = "run as the new process by other tests"]
    fn fails() {
        let takeover = begin();
        takeover.request_release().unwrap();
        takeover.reporter().unwrap().failed(&"ü".repeat(5000));
        std::process::exit(3);
    }

    /// Writes to the folder TMPDIR why it must not accept connections.
    #[test]
    #[ignore = "run as the new process by other tests"]
    fn is_ready_although_cancelled() {
        let takeover = begin();
        takeover.request_release().unwrap_err();
        assert!(matches!(takeover.ready(), Err(NotTaken::GivenUp | NotTaken::Io(_))));
        std::process::exit(5);
    }
}

fn this_program(test: &str) -> Program {
    let name = format!("upgrader::tests::successor::{test}");
    Program::new(env::current_exe().unwrap(), ["--exact", &name, "--ignored", "--nocapture"])
}

fn shell(script: &str) -> Program {
    Program::new("/bin/sh", ["-c", script])
}

fn listening(name: &str) -> (Listening, SocketAddr) {
    let socket = TcpListener::bind(ANY).unwrap();
    let address = socket.local_addr().unwrap();
    (Listening { name: name.to_owned(), address: Address::Tcp(ANY.parse().unwrap()), socket: socket.into() }, address)
}

fn upgrader(program: Program, limit: Duration) -> Upgrader {
    Upgrader::new(program, Arc::default(), limit)
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts the calls.
#[derive(Default)]
struct Counting {
    released: usize,
    restored: usize,
    refuse: bool,
    ready_within: Option<Duration>,
}

impl Host for Counting {
    fn release(&mut self) -> Result<(), String> {
        self.released += 1;
        if self.refuse { Err("it is in use".to_owned()) } else { Ok(()) }
    }

    fn ready_by(&self) -> Option<Instant> {
        self.ready_within.map(|within| Instant::now() + within)
    }

    fn restore(&mut self) {
        self.restored += 1;
    }
}

#[test]
fn the_new_process_serves_the_same_socket() {
    let (public, address) = listening("public");
    // It waits in the queue of the socket until the new process accepts it.
    let mut client = TcpStream::connect(address).unwrap();
    let process = upgrader(this_program("serves_one_connection"), PATIENCE).upgrade(&[public], &mut ()).unwrap();
    assert_ne!(process, std::process::id());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("[{}]", std::process::id()));
}

#[test]
fn the_draining_predecessors_are_passed_on_until_they_exit() {
    let (ends, others): (Vec<_>, Vec<_>) = (0..2).map(|_| Channel::pair().unwrap()).unzip();
    let predecessors = [(71, ends), (72, Vec::new())]
        .into_iter()
        .flat_map(|(process, ends)| ends.into_iter().map(move |channel| Predecessor { process, channel }));
    let draining = Arc::new(Draining::new(predecessors.collect()));
    assert_eq!(draining.processes(), [71, 71]);
    let mut others = others;
    others.pop();
    assert_eq!(draining.processes(), [71]);
    let (public, address) = listening("public");
    let upgrader = Upgrader::new(this_program("serves_one_connection"), draining, PATIENCE);
    upgrader.upgrade(&[public], &mut ()).unwrap();
    let mut answer = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("[71, {}]", std::process::id()));
}

#[test]
fn a_third_draining_process_is_refused() {
    let (ends, _others): (Vec<_>, Vec<_>) = (0..MAX_DRAINING).map(|_| Channel::pair().unwrap()).unzip();
    let predecessors = ends.into_iter().map(|channel| Predecessor { process: 71, channel });
    let draining = Arc::new(Draining::new(predecessors.collect()));
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let upgrader = Upgrader::new(shell(&format!("touch {}", started.display())), draining, PATIENCE);
    let error = upgrader.upgrade(&[], &mut ()).unwrap_err();
    assert!(error.is_refusal());
    assert_eq!(error.to_string(), "2 earlier processes still drain, at most 2 may: try again later");
    assert!(!started.exists());
}

#[test]
fn a_process_that_ends_is_reported_with_its_status() {
    for (script, expected) in [
        ("exit 3", "the new process ended before it was ready (exit status: 3)"),
        ("exit 0", "the new process ended before it was ready (exit status: 0)"),
        ("kill -SEGV $$", "the new process ended before it was ready (signal: 11 (SIGSEGV) (core dumped))"),
    ] {
        let (public, address) = listening("public");
        let mut host = Counting::default();
        let error = upgrader(shell(&format!("ulimit -c 0; {script}")), PATIENCE).upgrade(&[public], &mut host);
        let error = error.unwrap_err();
        assert!(!error.is_refusal());
        assert_eq!(error.to_string().replace(" (core dumped)", ""), expected.replace(" (core dumped)", ""));
        assert_eq!((host.released, host.restored), (0, 0));
        // The last descriptor was dropped here: no other process has the socket.
        TcpStream::connect(address).unwrap_err();
    }
}

#[test]
fn a_failure_is_reported_with_its_reason_and_what_was_released_is_restored() {
    let mut host = Counting::default();
    let error = upgrader(this_program("fails"), PATIENCE).upgrade(&[], &mut host).unwrap_err().to_string();
    let expected = format!("the new process ended before it was ready (exit status: 3): {}", "ü".repeat(2048));
    assert_eq!(error, expected);
    assert_eq!((host.released, host.restored), (1, 1));
}

#[test]
fn what_cannot_be_released_fails_the_upgrade() {
    let mut host = Counting { refuse: true, ..Counting::default() };
    let error = upgrader(this_program("fails"), PATIENCE).upgrade(&[], &mut host).unwrap_err();
    assert_eq!(error.to_string(), "it is in use");
    assert_eq!((host.released, host.restored), (1, 1));
}

#[test]
fn a_process_that_is_not_ready_in_time_is_killed() {
    let limit = Duration::from_secs(1);
    let mut host = Counting::default();
    let error = upgrader(this_program("never_is_ready"), limit).upgrade(&[], &mut host).unwrap_err();
    assert_eq!(error.to_string(), "the new process was not ready after 1 s and was killed: the moon");
    assert_eq!((host.released, host.restored), (1, 1));
}

#[test]
fn the_limit_after_a_release_may_be_shorter() {
    let mut host = Counting { ready_within: Some(Duration::from_millis(200)), ..Counting::default() };
    let upgrader = upgrader(this_program("never_is_ready"), PATIENCE);
    let started = Instant::now();
    assert!(matches!(upgrader.upgrade(&[], &mut host), Err(NotUpgraded::TimedOut { .. })));
    assert!(started.elapsed() < PATIENCE);
    assert_eq!((host.released, host.restored), (1, 1));
}

#[test]
fn a_program_that_knows_no_upgrades_is_killed_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let id = folder.path().join("id");
    let script = format!("echo $$ > {}; exec sleep 600", id.display());
    let error = upgrader(shell(&script), Duration::from_millis(500)).upgrade(&[], &mut ()).unwrap_err();
    assert!(matches!(error, NotUpgraded::TimedOut { reason: None, .. }), "{error}");
    assert!(!is_running(&id));
}

#[test]
fn a_program_that_does_not_exist_is_reported() {
    let error = upgrader(Program::new("/nonexistent/program", [""; 0]), PATIENCE).upgrade(&[], &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "the new process cannot be started: No such file or directory (os error 2)");
}

#[test]
fn after_a_cancellation_no_process_takes_over() {
    /// Cancels when the new process requests a release.
    struct Cancelling(Cancel);
    impl Host for Cancelling {
        fn release(&mut self) -> Result<(), String> {
            self.0.cancel();
            Ok(())
        }
    }
    let upgrader = upgrader(this_program("is_ready_although_cancelled"), PATIENCE);
    let mut host = Cancelling(upgrader.canceller());
    assert!(matches!(upgrader.upgrade(&[], &mut host), Err(NotUpgraded::Stopping)));
    // Nor later.
    assert!(matches!(upgrader.upgrade(&[], &mut ()), Err(NotUpgraded::Stopping)));
}

#[test]
fn a_process_that_was_not_started_by_an_upgrade_receives_nothing() {
    let receive = |end, process| Takeover::receive(end, process).unwrap_err().to_string();
    let (_ours, theirs) = Channel::pair().unwrap();
    let other = receive(theirs, std::process::id() + 1);
    assert!(other.ends_with("the standard input belongs to another process"), "{other}");
    let file = receive(fs::File::open("/dev/null").unwrap().into(), std::process::id());
    assert!(file.ends_with("the standard input is not a socket"), "{file}");
}

#[test]
fn what_is_not_a_listening_socket_is_refused() {
    let (ours, theirs) = Channel::pair().unwrap();
    let tag = Tag { name: "public".to_owned(), address: Address::Tcp(ANY.parse().unwrap()) };
    let message = Message::Sockets { version: VERSION, listeners: vec![tag], draining: Vec::new(), has_channel: false };
    ours.send(&message, &[fs::File::open("/dev/null").unwrap().as_fd()]).unwrap();
    let error = Takeover::receive(theirs, std::process::id()).unwrap_err().to_string();
    assert!(error.ends_with("a descriptor is not a listening socket"), "{error}");
}

#[test]
fn another_version_or_number_of_sockets_is_refused() {
    for (version, process, has_channel) in
        [(VERSION + 1, None, false), (VERSION, Some(71), false), (VERSION, None, true)]
    {
        let (ours, theirs) = Channel::pair().unwrap();
        let draining = process.into_iter().collect();
        let message = Message::Sockets { version, listeners: Vec::new(), draining, has_channel };
        ours.send(&message, &[]).unwrap();
        assert!(matches!(Takeover::receive(theirs, std::process::id()), Err(NotTaken::Version)));
    }
}

#[test]
fn listeners_are_found_by_name_or_bound_address() {
    let (ours, theirs) = Channel::pair().unwrap();
    let (one, address_of_one) = listening("one");
    let (two, address_of_two) = listening("two");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let unix = Listening { name: "unix".to_owned(), address: Address::Unix(path.clone()), socket: unix.into() };
    let attempt = Attempt {
        child: std::process::Command::new("true").spawn().unwrap(),
        channel: ours,
        limit: PATIENCE,
        deadline: Instant::now(),
        cancel: &Cancel::default(),
        reason: None,
    };
    let (mut near, far) = UnixStream::pair().unwrap();
    assert!(attempt.pass(&[one, two, unix], &[], Some(far.as_fd())).is_ok());
    drop(far);
    let mut takeover = Takeover::receive(theirs, std::process::id()).unwrap();
    let mut far = UnixStream::from(takeover.take_channel().unwrap());
    assert!(takeover.take_channel().is_none());
    far.write_all(b"a").unwrap();
    near.read_exact(&mut [0]).unwrap();
    let any = ANY.parse().unwrap();
    assert!(takeover.take_tcp("three", any).is_none());
    assert!(takeover.take_tcp("one", SocketAddr::from(([127, 0, 0, 2], address_of_one.port()))).is_none());
    assert_eq!(takeover.take_tcp("one", any).unwrap().local_addr().unwrap(), address_of_one);
    assert!(takeover.take_tcp("one", any).is_none());
    assert_eq!(takeover.take_tcp("three", address_of_two).unwrap().local_addr().unwrap(), address_of_two);
    assert!(takeover.take_unix(Path::new("/nonexistent")).is_none());
    assert_eq!(takeover.take_unix(&path).unwrap().local_addr().unwrap().as_pathname(), Some(&*path));
}

/// Whether the process whose id is in the file runs.
fn is_running(id: &Path) -> bool {
    let id = fs::read_to_string(id).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
    let _ = kill_process(id, Signal::CONT);
    test_kill_process(id).is_ok()
}
