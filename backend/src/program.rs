//! The program: reads the command line and the configuration, and runs.
//!
//! It is in the library so that its futures are compiled once. An `async fn` is compiled where it is polled; in the
//! binary, that would instantiate the code of the MongoDB driver a second time.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::command::{self, Cli, Command};
use crate::config::{Config, Problems};
use crate::feed::Feed;
use crate::handler::App;
use crate::password::Hasher;
use crate::record::{self, LogGuard, Metrics};
use crate::server::{Address, Drained, Listeners, Server};
use crate::store::{Store, StoreError, StoreUrl, Undated};
use crate::upgrade::{self, NotSucceeded, Outcome, Succession, Upgrades};
use clap::{CommandFactory as _, Parser};
use holodule_handover::{History, Program, Takeover};
use holodule_settings::{
    Output, Results, VERSION, closed_status, counted, print_usage, shown_path, with_shown_path, without_secrets,
    write_manual,
};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};

type ProgramError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command line to completion. The exit status is 1 on failure; `import` has others (see `import --help`).
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Status 2 has another meaning: see `import --help`.
            return print_usage(&without_secrets(error), 1);
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
        Command::Serve => serve(config).await.map(|()| ExitCode::SUCCESS),
        Command::Check { connect, show } => check(&config()?, connect, show).await.map(|()| ExitCode::SUCCESS),
        Command::Health { ready } => {
            let address = Config::load_admin_addr(file.as_deref(), dotenv)?;
            command::health(address, ready).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Upgrade { admin, timeout } => {
            let address = admin.map_or_else(|| Config::load_admin_addr(file.as_deref(), dotenv), Ok)?;
            request_upgrade(address, Duration::from_secs(timeout)).await
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

/// Requests an upgrade of the running backend.
async fn request_upgrade(admin: Address, limit: Duration) -> Result<ExitCode, ProgramError> {
    if matches!(admin, Address::Tcp(address) if address.port() == 0) {
        return Err("admin_addr has no fixed port: give the address that the backend announced, with --admin".into());
    }
    let request = move || holodule_handover::request_upgrade(&admin.into(), limit);
    let page = tokio::task::spawn_blocking(request).await??;
    let mut results = Results::standard();
    results.print(format_args!("upgraded: process {} serves", page.process));
    Ok(results.finish(ExitCode::SUCCESS)?)
}

async fn check(config: &Config, connect: bool, show: bool) -> Result<(), ProgramError> {
    let mut out = Output::standard();
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
            writeln!(out, "warning: not listed under any day: {}", counted(probe.undated, "holodule"))?;
        }
        writeln!(out, "{} can be used", config.store.url)?;
    }
    Ok(())
}

async fn serve(read: impl Fn() -> Result<Config, Problems> + Send + 'static) -> Result<(), ProgramError> {
    // Before anything can replace the file of the program.
    let program = Program::current();
    let takeover = tokio::task::spawn_blocking(Takeover::begin).await??;
    let reporter = takeover.as_ref().map(Takeover::reporter).transpose()?;
    let result = serve_from(read, program, takeover).await;
    if let (Err(error), Some(reporter)) = (&result, reporter) {
        reporter.failed(&error.to_string());
    }
    result
}

async fn serve_from(
    read: impl Fn() -> Result<Config, Problems> + Send + 'static,
    program: io::Result<Program>,
    mut takeover: Option<Takeover>,
) -> Result<(), ProgramError> {
    let config = read()?;
    let signals = Signals::catch()?;
    let log = record::start(config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    let metrics = Metrics::new()?;
    let hasher = Hasher::new(&config.password)?;
    let telemetry = config.telemetry.as_ref().map(|settings| holodule_telemetry::start(settings, VERSION));
    let (tracer, exporter) = telemetry.transpose()?.unzip();
    // A new process leaves its predecessor no store to serve, so an address that it cannot bind must be known before.
    let inherited = match &mut takeover {
        Some(takeover) => Some(listen(&config, Some(takeover)).await?),
        None => None,
    };
    let (store, takeover) = match upgrade::open_store(&config.store, takeover).await {
        Ok(opened) => opened,
        Err(NotSucceeded::Store(error)) => return Err(about_store(&config, &error).into()),
        Err(NotSucceeded::NotTaken(error)) => return Err(error.into()),
    };
    // On the other hand, a client should not wait for one that is checking its store.
    let listeners = match inherited {
        Some(listeners) => listeners,
        None => listen(&config, None).await?,
    };
    let announcement = listeners.announcement()?;
    let url = shown_url(&config.store.url);
    let feed = Feed::start(store.clone())?;
    let succession = takeover.map(Succession::new);
    let draining = succession.as_ref().map(Succession::draining).unwrap_or_default();
    let predecessor = succession.as_ref().map(Succession::predecessor);
    let history = Arc::new(History::new(predecessor, Arc::clone(&draining)));
    let app = App::new(store.clone(), hasher, feed, Arc::clone(&metrics), config.handler.clone(), log.dropped());
    let app = Arc::new(app.with_history(Arc::clone(&history)).with_tracer(tracer));
    // Not before this process may serve: until then, the file is the predecessor's. Nor later: another program may look for
    // the process that serves as soon as the predecessor has ended.
    let announce = {
        let (path, announcement) = (config.announce_file.clone(), announcement.clone());
        let subject = config.values.subject("announce_file");
        move || match &path {
            Some(path) => {
                let written = announcement.write(path);
                written.map_err(|error| format!("{subject}: {}: {error}", shown_path(path)))
            }
            None => Ok(()),
        }
    };
    let start = || Server::start(listeners, &config.server, app);
    let server = match succession {
        Some(succession) => {
            let announce = move || {
                if let Err(error) = announce() {
                    tracing::error!(error, "the addresses could not be announced");
                }
            };
            let server = succession.serve(announce, start).await?;
            metrics.in_place().count("succeeded");
            if let Err(error) = store.taken_over().await {
                tracing::error!(%error, "the indexes of lists cannot be built now");
            }
            server
        }
        None => {
            announce()?;
            start()
        }
    };
    tracing::info!(
        api = announcement.api,
        admin = announcement.admin,
        store = url,
        predecessor,
        version = VERSION,
        "listening"
    );
    notify(&[NotifyState::Ready]);
    let limits = (config.upgrade_timeout, config.server.drain);
    let addresses = [config.api_addr.clone(), config.admin_addr.clone()];
    let upgrades = Upgrades::new(program, draining, limits, (store, metrics, history), addresses);
    let (request, mut reread) = reader(read)?;
    let reload_each = async {
        while let Some(reread) = reread.recv().await {
            reload(&config, &log, reread);
        }
        std::future::pending().await
    };
    // If one is already queued, it will read the current files.
    let request = || request.try_send(()).unwrap_or_default();
    let ended = tokio::select! {
        ended = signals.wait(server, &upgrades, request) => ended?,
        never = reload_each => never,
    };
    // Exports the spans of the last requests.
    drop(exporter);
    tracing::info!(connections_cut = ended.cut, "stopped");
    Ok(())
}

async fn listen(config: &Config, takeover: Option<&mut Takeover>) -> Result<Listeners, ProgramError> {
    let listeners = upgrade::listeners(&config.api_addr, &config.admin_addr, takeover).await;
    listeners.map_err(|error| {
        let key = if error.address() == &config.api_addr { "api_addr" } else { "admin_addr" };
        format!("{}: {error}", config.values.subject(key)).into()
    })
}

/// The installed signal handlers.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

impl Signals {
    /// Installs them. Until then, each of these signals ends the process.
    fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Serves until SIGTERM, SIGINT or an upgrade, drains, and returns the result. Calls `reload` on each SIGHUP.
    async fn wait(mut self, server: Server, upgrades: &Upgrades, reload: impl Fn()) -> Result<Drained, JoinError> {
        let mut server = Some(server);
        let mut upgrading: Option<JoinHandle<Outcome>> = None;
        loop {
            let upgraded = async {
                match &mut upgrading {
                    Some(upgrading) => upgrading.await,
                    None => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    reload();
                    continue;
                }
                _ = self.upgrade.recv() => {
                    // One that arrives during an upgrade has the same result.
                    if let Some(server) = server.take() {
                        upgrading = Some(upgrades.start(server));
                    }
                    continue;
                }
                outcome = upgraded => outcome?,
            };
            upgrading = None;
            match outcome {
                Outcome::Continues(same) => server = Some(same),
                Outcome::Left(successor, left) => {
                    // Only this process may, as the main process of the unit (NotifyAccess=main).
                    notify(&[NotifyState::MainPid(successor)]);
                    return Ok(left.leave().await);
                }
            }
        }
        upgrades.canceller().cancel();
        let ended = match upgrading {
            Some(upgrading) => Some(upgrading.await?),
            None => server.map(Outcome::Continues),
        };
        tracing::info!("stopping: draining requests in flight");
        match ended {
            Some(Outcome::Continues(server)) => {
                notify(&[NotifyState::Stopping]);
                Ok(server.drain().await)
            }
            // It was too late to cancel.
            Some(Outcome::Left(successor, left)) => {
                notify(&[NotifyState::MainPid(successor)]);
                Ok(left.leave().await)
            }
            None => Ok(Drained { cut: 0 }),
        }
    }
}

/// Calls `read` for each request, on a separate thread: reading may block, for example on a FIFO without a writer or a
/// network file system, and the program must still stop.
fn reader<T: Send + 'static>(
    read: impl Fn() -> T + Send + 'static,
) -> io::Result<(mpsc::SyncSender<()>, tokio::sync::mpsc::UnboundedReceiver<T>)> {
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
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

/// Reports `error`, unless the reader of the output has closed it, and returns the exit status.
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    closed_status(error).unwrap_or_else(|| {
        // If standard error is closed, there is no other place to report to.
        let _ = writeln!(io::stderr(), "holodule-backend: {}", error.to_string().trim_end());
        ExitCode::FAILURE
    })
}
