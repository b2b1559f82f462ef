//! The programs as processes, started on free ports and killed when dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of the gateway.
pub const GATEWAY: &str = env!("CARGO_BIN_EXE_holodule-gateway");

/// The path of the backend, which is in the same folder as the gateway.
pub fn backend() -> PathBuf {
    let program = Path::new(GATEWAY).with_file_name("holodule-backend");
    assert!(program.exists(), "{} is missing: build the whole workspace first, as ops/test does", program.display());
    program
}

/// A running program and its output.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// The content of its announce file.
    pub addresses: serde_json::Value,
}

impl Process {
    /// Starts `program` in `folder` with this environment only, and waits until it has bound its listeners.
    pub fn start(program: &Path, folder: &Path, environment: &[(&str, String)]) -> Self {
        let name = program.file_name().unwrap().to_str().unwrap();
        let announced = folder.join(format!("{name}.json"));
        // A file of an earlier run has other addresses.
        let _ = fs::remove_file(&announced);
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(program)
            .env_clear()
            .env("ANNOUNCE_FILE", &announced)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut process = Self { child, log, addresses: serde_json::Value::Null };
        process.addresses = wait_for("the announcement", || {
            assert!(process.child.try_wait().unwrap().is_none(), "{name} exited: {}", process.log());
            Some(serde_json::from_str(&fs::read_to_string(&announced).ok()?).unwrap())
        });
        process
    }

    /// The address of a listener.
    pub fn address(&self, listener: &str) -> &str {
        self.addresses[listener].as_str().unwrap()
    }

    /// Its standard output and standard error, with those of earlier runs in the folder.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it exits, and returns its exit code, which is `None` if it was killed by a signal.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("the exit", || self.child.try_wait().unwrap()).code()
    }

    pub fn kill(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command with `input`, asserts that it succeeds, and returns its output.
pub fn run(command: &mut Command, input: &str) -> String {
    let Output { status, stdout, stderr } = output(command, input);
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs a command with `input`.
pub fn output(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}");
        });
    // A command that reads no input may have exited already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Polls `found` until it returns a value.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
