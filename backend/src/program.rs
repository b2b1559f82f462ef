//! The program: reads the command line and the configuration, and runs.
//!
//! It is in the library so that its futures are compiled once. An `async fn` is compiled where it is polled; in the
//! binary, that would instantiate the code of the MongoDB driver a second time.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use crate::command::{self, Cli, Command};
use crate::config::{Config, Problems};
use crate::feed::Feed;
use crate::handler::App;
use crate::password::Hasher;
use crate::record::{self, LogGuard, Metrics};
use crate::server::{self, Listeners};
use crate::store::{Store, StoreError, StoreUrl, Undated};
use clap::{CommandFactory as _, Parser};
use holodule_settings::{shown_path, with_shown_path, without_secrets, write_manual};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

type ProgramError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command line to completion. The exit status is 1 on failure; `import` has others (see `import --help`).
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = without_secrets(error);
            // Status 2 has another meaning: see `import --help`.
            let code = if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            return if error.print().is_ok() { code } else { ExitCode::FAILURE };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => failed(error.as_ref()),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, ProgramError> {
    let (file, dotenv) = (cli.config, Path::new(".env"));
    let named = file.clone();
    let config = move || Config::load(named.as_deref(), dotenv);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config()?, config).await.map(|()| ExitCode::SUCCESS),
        Command::Check { connect, show } => check(&config()?, connect, show).await.map(|()| ExitCode::SUCCESS),
        Command::Health { ready } => {
            let address = Config::load_admin_addr(file.as_deref(), dotenv)?;
            command::health(address, ready).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Manual { folder } => {
            write_manual(Cli::command(), &folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Admin(admin) => {
            // On another host there is no configuration to read; --admin is sufficient there.
            command::run(admin, || config().map(|config| config.admin_addr)).await
        }
    }
}

async fn check(config: &Config, connect: bool, show: bool) -> Result<(), ProgramError> {
    let mut out = std::io::stdout();
    for line in config.effective.iter().filter(|_| show) {
        writeln!(out, "{line}")?;
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for note in &config.notes {
        writeln!(out, "note: {note}")?;
    }
    Store::check(&config.store)?;
    writeln!(out, "configuration is valid")?;
    if connect {
        let probe = Store::probe(&config.store).await.map_err(|error| format!("{}: {error}", config.store.url))?;
        for Undated { id, datetime } in &probe.first_undated {
            writeln!(
                out,
                "warning: the holodule with _id {id} is not listed under any day: its datetime is {datetime}"
            )?;
        }
        if probe.undated > 0 {
            writeln!(out, "warning: {} holodules are not listed under any day", probe.undated)?;
        }
        writeln!(out, "{} can be used", config.store.url)?;
    }
    Ok(())
}

async fn serve(
    config: Config,
    read: impl Fn() -> Result<Config, Problems> + Send + 'static,
) -> Result<(), ProgramError> {
    // Before anything else: until the signal is handled, it ends the process.
    let mut hangup = signal(SignalKind::hangup())?;
    let log = record::start(config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    let metrics = Metrics::new()?;
    let hasher = Hasher::new(&config.password)?;
    let store = Store::open(&config.store).await.map_err(|error| about_store(&config, &error))?;
    let url = shown_url(&config.store.url);
    let feed = Feed::start(store.clone())?;
    let app = Arc::new(App::new(store, hasher, feed, metrics, config.handler.clone(), log.dropped()));

    let listeners = Listeners::bind(&config.api_addr, &config.admin_addr).await.map_err(|error| {
        let key = if error.address() == &config.api_addr { "api_addr" } else { "admin_addr" };
        format!("{}: {error}", config.values.subject(key))
    })?;
    let announcement = listeners.announcement()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (request, mut reread) = reader(read)?;
    let shutdown = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // If one is already queued, it will read the current files.
                _ = hangup.recv() => drop(request.try_send(())),
                Some(reread) = reread.recv() => reload(&config, &log, reread),
            }
        }
        tracing::info!("stopping: draining requests in flight");
        notify(NotifyState::Stopping);
    };
    if let Some(path) = &config.announce_file {
        announcement
            .write(path)
            .map_err(|error| format!("{}: {}: {error}", config.values.subject("announce_file"), shown_path(path)))?;
    }
    tracing::info!(
        api = announcement.api,
        admin = announcement.admin,
        store = url,
        version = holodule_settings::VERSION,
        "listening"
    );
    notify(NotifyState::Ready);
    let drained = server::run(listeners, &config.server, app, shutdown).await;
    tracing::info!(connections_cut = drained.cut, "stopped");
    Ok(())
}

/// Calls `read` for each request, on a separate thread: reading may block, for example on a FIFO without a writer or a
/// network file system, and the program must still stop.
fn reader<T: Send + 'static>(
    read: impl Fn() -> T + Send + 'static,
) -> std::io::Result<(mpsc::SyncSender<()>, tokio::sync::mpsc::UnboundedReceiver<T>)> {
    let (request, requests) = mpsc::sync_channel(1);
    let (sender, results) = tokio::sync::mpsc::unbounded_channel();
    let run = move || requests.into_iter().all(|()| sender.send(read()).is_ok());
    std::thread::Builder::new().name("reload".to_owned()).spawn(run)?;
    Ok((request, results))
}

/// Applies the log level, the only setting that can change at run time, and reports whether others differ.
fn reload(running: &Config, log: &LogGuard, reread: Result<Config, Problems>) {
    match reread {
        Ok(config) => {
            log.set_level(config.log.level);
            if config.is_changed_from(running) {
                tracing::warn!("configuration reloaded; changes to settings other than log.level need a restart");
            } else {
                tracing::info!("configuration reloaded");
            }
        }
        Err(problems) => tracing::error!(%problems, "the new configuration is invalid; the running one is unchanged"),
    }
}

/// The error of opening the store, with the key that configures it.
fn about_store(config: &Config, error: &StoreError) -> String {
    let key = if config.values.origin("store").is_some() { "store" } else { "mongodb_host" };
    let error = error.to_string();
    match &config.store.url {
        StoreUrl::Embedded(path) => format!("{}: {}", config.values.subject("store"), with_shown_path(&error, path)),
        StoreUrl::Mongo(_) => format!("{}: {error}", config.values.subject(key)),
    }
}

/// The URL for the log. A mistyped MongoDB URL may have been read as a path, so the path is checked for secrets.
fn shown_url(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Embedded(path) => format!("embedded:{}", shown_path(path)),
        StoreUrl::Mongo(url) => url.to_string(),
    }
}

/// Notifies systemd if it set `NOTIFY_SOCKET`.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    // If standard error is closed, there is no other place to report to.
    let _ = writeln!(std::io::stderr(), "holodule-backend: {}", error.to_string().trim_end());
    ExitCode::FAILURE
}
