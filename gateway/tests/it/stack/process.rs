//! The programs as processes: started on free ports, ended whatever becomes of the test.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes this long on a machine that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The gateway's program.
pub const GATEWAY: &str = env!("CARGO_BIN_EXE_holodule-gateway");

/// The backend's program, which stands beside the gateway's.
pub fn backend() -> PathBuf {
    let program = Path::new(GATEWAY).with_file_name("holodule-backend");
    assert!(program.exists(), "{} is missing: build the whole workspace first, as ops/test does", program.display());
    program
}

/// A program that serves, and everything it has written.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// What its announce file tells.
    pub addresses: serde_json::Value,
}

impl Process {
    /// Starts `program` in `folder` with this environment and no other, and waits until it serves.
    pub fn start(program: &Path, folder: &Path, environment: &[(&str, String)]) -> Self {
        let name = program.file_name().unwrap().to_str().unwrap();
        let announced = folder.join(format!("{name}.json"));
        // One of an earlier run would be believed.
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
            assert!(process.child.try_wait().unwrap().is_none(), "{name} ended: {}", process.log());
            Some(serde_json::from_str(&fs::read_to_string(&announced).ok()?).unwrap())
        });
        process
    }

    /// One of the addresses it announced.
    pub fn address(&self, listener: &str) -> &str {
        self.addresses[listener].as_str().unwrap()
    }

    /// Everything it has written, on either stream, and that of an earlier run in the folder.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end, and tells its exit status (none where a signal ended it).
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("the end", || self.child.try_wait().unwrap()).code()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end with `input`, and fails where it does.
pub fn run(command: &mut Command, input: &str) -> String {
    let Output { status, stdout, stderr } = output(command, input);
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs a command to its end with `input`.
pub fn output(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}");
        });
    // A command that wants no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Asks again and again until there is something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}
