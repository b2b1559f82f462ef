//! `watch = true`: a change of a file of the configuration reloads it, however the file is replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holodule_gateway::token::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Program, command, folder};
use crate::support::backend::Backend;
use crate::support::{DAY, admin, api, until};

const SUCCESSFUL: &str = "gateway_config_last_reload_successful";

/// A static token, and its table for the configuration.
fn token_of(name: char) -> (String, String) {
    let token = format!("holodule_{}", name.to_string().repeat(43));
    let sha256 = Digest::of(token.as_bytes());
    (token, format!("[[static_token]]\nname = '{name}'\nsha256 = '{sha256}'\nroutes = ['*']\n"))
}

/// A gateway that watches its files.
struct Watching {
    program: Program,
    folder: TempDir,
    settings: String,
    _services: (Backend, Backend),
}

impl Watching {
    /// Starts it after `prepare` was called with the folder.
    async fn start(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_by(command, prepare).await
    }

    /// Starts it by this command, for its folder.
    async fn start_by(command: impl FnOnce(&Path) -> Command, prepare: impl FnOnce(&Path)) -> Self {
        let folder = folder();
        let settings = fs::read_to_string(folder.path().join("gateway.toml")).unwrap();
        let settings = format!("watch = true\n{settings}");
        fs::write(folder.path().join("gateway.toml"), &settings).unwrap();
        prepare(folder.path());
        let (api, admin) = (api().await, admin().await);
        let program = Program::spawn(command(folder.path()), folder.path(), &api, &admin, &[]).await;
        Self { program, folder, settings, _services: (api, admin) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration with this static token.
    fn with_token(&self, name: char) -> String {
        format!("{}\n{}", self.settings, token_of(name).1)
    }

    async fn until_accepted(&self, name: char) {
        let token = token_of(name).0;
        let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut connection = self.program.connect().await;
        until("the token is accepted", async || connection.exchange(&request).await.status == 200).await;
    }

    /// The messages of the log about reloads and watching, after the end of the program.
    fn stop(self) -> Vec<String> {
        let log = self.program.stop();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let messages = lines.filter_map(|line| line["message"].as_str().map(str::to_owned));
        messages.filter(|text| ["reload", "watch", "has changed"].iter().any(|word| text.contains(word))).collect()
    }
}

#[tokio::test]
async fn a_configuration_that_is_written_or_renamed_is_reloaded() {
    let watching = Watching::start(|_| ()).await;
    fs::write(watching.path("gateway.toml"), watching.with_token('a')).unwrap();
    watching.until_accepted('a').await;
    fs::write(watching.path("draft"), watching.with_token('b')).unwrap();
    fs::rename(watching.path("draft"), watching.path("gateway.toml")).unwrap();
    watching.until_accepted('b').await;
    let log = watching.stop();
    assert!(!log.iter().any(|line| line.contains("cannot be watched")), "{log:?}");
}

#[tokio::test]
async fn after_an_invalid_change_the_next_one_counts() {
    let watching = Watching::start(|_| ()).await;
    fs::write(watching.path("gateway.toml"), watching.with_token('a')).unwrap();
    watching.until_accepted('a').await;
    fs::write(watching.path("gateway.toml"), "drain_timeout = -1").unwrap();
    until("the change was refused", async || watching.program.metric(SUCCESSFUL).await == 0.0).await;
    watching.until_accepted('a').await;
    fs::write(watching.path("gateway.toml"), watching.with_token('b')).unwrap();
    watching.until_accepted('b').await;
    assert_eq!(watching.program.metric(SUCCESSFUL).await.to_string(), "1");
}

#[tokio::test]
async fn a_file_that_a_change_names_is_watched_from_then_on() {
    let watching = Watching::start(|_| ()).await;
    let settings = watching.with_token('a').replace("'cert.pem'", "'new/cert.pem'");
    fs::write(watching.path("gateway.toml"), settings).unwrap();
    until("the missing file is reported", async || watching.program.metric(SUCCESSFUL).await == 0.0).await;
    // Its folder did not exist either.
    fs::create_dir(watching.path("staged")).unwrap();
    fs::copy(watching.path("cert.pem"), watching.path("staged/cert.pem")).unwrap();
    fs::rename(watching.path("staged"), watching.path("new")).unwrap();
    watching.until_accepted('a').await;
}

#[tokio::test]
async fn a_secret_mounted_by_kubernetes_is_reloaded_with_its_link() {
    let mount = |folder: &Path, version: &str, settings: &str| {
        let data = folder.join("conf").join(version);
        fs::create_dir_all(&data).unwrap();
        for name in ["cert.pem", "key.pem"] {
            fs::copy(folder.join(name), data.join(name)).unwrap();
        }
        fs::write(data.join("gateway.toml"), settings).unwrap();
        let _ = fs::remove_file(folder.join("conf/..data_tmp"));
        symlink(version, folder.join("conf/..data_tmp")).unwrap();
        fs::rename(folder.join("conf/..data_tmp"), folder.join("conf/..data")).unwrap();
    };
    let watching = Watching::start(|folder| {
        let settings = fs::read_to_string(folder.join("gateway.toml")).unwrap();
        let settings = settings.replace("'cert.pem'", "'conf/cert.pem'").replace("'key.pem'", "'conf/key.pem'");
        mount(folder, "..1", &settings);
        for name in ["cert.pem", "key.pem", "gateway.toml"] {
            symlink(Path::new("..data").join(name), folder.join("conf").join(name)).unwrap();
        }
        fs::remove_file(folder.join("gateway.toml")).unwrap();
        symlink("conf/gateway.toml", folder.join("gateway.toml")).unwrap();
    })
    .await;
    for (version, token) in [("..2", 'a'), ("..3", 'b')] {
        mount(watching.folder.path(), version, &watching.with_token(token).replace("'cert.pem'", "'conf/cert.pem'"));
        watching.until_accepted(token).await;
    }
    // The old data may be removed, which changes nothing.
    fs::remove_dir_all(watching.path("conf/..1")).unwrap();
    assert_eq!(watching.program.metric(SUCCESSFUL).await.to_string(), "1");
}

#[tokio::test]
async fn certificate_key_and_env_file_are_watched() {
    let watching = Watching::start(|_| ()).await;
    for name in ["cert.pem", "key.pem", ".env"] {
        let valid = fs::read(watching.path(name)).unwrap();
        fs::write(watching.path(name), "'").unwrap();
        until(&format!("{name} is refused"), async || watching.program.metric(SUCCESSFUL).await == 0.0).await;
        fs::write(watching.path("draft"), valid).unwrap();
        fs::rename(watching.path("draft"), watching.path(name)).unwrap();
        until(&format!("{name} is accepted"), async || watching.program.metric(SUCCESSFUL).await == 1.0).await;
    }
}

/// The program in a user namespace in which a limit of inotify is 0.
fn command_without(limit: &str) -> impl FnOnce(&Path) -> Command {
    let script = format!("echo 0 > /proc/sys/user/max_inotify_{limit} && exec \"$@\"");
    move |folder| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_holodule-gateway")]);
        command.env_clear().current_dir(folder).stdin(Stdio::null());
        command
    }
}

#[tokio::test]
async fn without_inotify_instances_one_line_reports_it_and_only_signals_reload() {
    let watching = Watching::start_by(command_without("instances"), |_| ()).await;
    fs::write(watching.path("gateway.toml"), watching.with_token('a')).unwrap();
    watching.program.signal("-HUP");
    watching.until_accepted('a').await;
    let log = watching.stop();
    let [failure, reload] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!(failure, "the files of the configuration cannot be watched");
    assert!(reload.starts_with("the configuration was reloaded"), "{reload}");
}

#[tokio::test]
async fn without_inotify_watches_the_files_are_examined_from_time_to_time() {
    let watching = Watching::start_by(command_without("watches"), |_| ()).await;
    fs::write(watching.path("gateway.toml"), watching.with_token('a')).unwrap();
    watching.until_accepted('a').await;
    let log = watching.stop();
    let report = "a folder of a configuration file cannot be watched; its files are examined every 10 s";
    assert!(log.iter().any(|line| line == report), "{log:?}");
}

#[tokio::test]
async fn nothing_is_watched_by_default() {
    let watching = Watching::start(|folder| {
        let settings = fs::read_to_string(folder.join("gateway.toml")).unwrap();
        fs::write(folder.join("gateway.toml"), settings.replace("watch = true\n", "")).unwrap();
    })
    .await;
    fs::write(watching.path("gateway.toml"), watching.with_token('a')).unwrap();
    // The change above would be first.
    watching.program.signal("-HUP");
    watching.until_accepted('a').await;
    let log = watching.stop();
    assert!(!log.iter().any(|line| line.contains("has changed")), "{log:?}");
}
