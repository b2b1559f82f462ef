//! `holodule-gateway`: parse, build, run.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use holodule_gateway::config::{
    Config, Difference, Digests, EVERY_ROUTE, Problems, StaticTokenNames, differences_of_contents, ops_address,
};
use holodule_gateway::health::{self, Kind};
use holodule_gateway::record::log;
use holodule_gateway::scope::Scopes;
use holodule_gateway::server::{CONFIG_PAGE, Gateway, Signals, Stopped, Upgrades, Watch};
use holodule_gateway::token::{Digest, Routes, StaticToken, random_static_token};
use holodule_handover::{Address, Program, Takeover, request_upgrade};
use holodule_settings::{
    Files, Output, Results, closed_status, counted, print_usage, shown, shown_name, whole_seconds, without_secrets,
    write_manual,
};
use sd_notify::NotifyState;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The exit status of an invalid command line.
const USAGE: u8 = 2;

/// Returns memory to the system after a peak of connections.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A TLS gateway that issues and verifies JSON Web Tokens.
///
/// It responds to POST /auth with a token if the backend accepts the credentials, and
/// forwards requests with a valid token on the configured routes to the backend.
///
/// Settings come from the file given by --config. An .env file in the working directory
/// overrides it, and the environment overrides both: there, the key `tls.certificate` is
/// TLS_CERTIFICATE. To read the secret `jwt_secret_key` from a file, set
/// JWT_SECRET_KEY_FILE to its path. ops/config/gateway.toml describes every key.
#[derive(Parser)]
#[command(version = holodule_settings::VERSION, max_term_width = 100)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "HOLODULE_GATEWAY_CONFIG", hide_env_values = true, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default). SIGHUP reloads the configuration, all or nothing;
    /// what needs an upgrade or a restart instead is logged. SIGUSR2 upgrades in place: see `upgrade`.
    Serve,
    /// Validate the configuration. The exit status is 0 if it is valid, otherwise 1.
    Check {
        /// Also exit with 1 on any warning, such as a certificate that has expired or soon will.
        #[arg(long)]
        strict: bool,
        /// First print every key with its effective value and origin; secrets are masked.
        #[arg(long)]
        show: bool,
    },
    /// Print what a reload of the configuration would change in the running gateway, and what needs an upgrade. The exit
    /// status is 0 without differences, 1 with, and 2 on an error, as of diff.
    ///
    /// Secrets and the contents of files are compared only with --against, and never shown.
    Diff {
        /// Compare with this configuration file instead of the running gateway.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// The ops listener of the running gateway; by default ops_addr.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "against", value_parser = address)]
        ops: Option<SocketAddr>,
    },
    /// Request /healthz of the running gateway at ops_addr. The exit status is 0 if it runs, otherwise 1.
    ///
    /// For the health checks of containers. No other key of the configuration is read. A probe fails after 5 s.
    Health {
        /// Request /readyz instead: whether the gateway should receive traffic.
        #[arg(long)]
        ready: bool,
    },
    /// Replace the running gateway by a new process, with the current program and configuration, without losing a
    /// request. The exit status is 0 if the new process serves, otherwise 1, and the old one continues to serve.
    ///
    /// It sends SIGUSR2 to the process that serves ops_addr, and waits for the result. No other key of the
    /// configuration is read.
    Upgrade {
        /// The ops listener, if ops_addr has no fixed port.
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        ops: Option<SocketAddr>,
        /// How many seconds to wait for the result.
        #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = whole_seconds)]
        timeout: u64,
    },
    /// Create static tokens, for machines.
    #[command(subcommand)]
    StaticToken(StaticTokenCommand),
    /// Write the manual pages and the completions for bash, zsh and fish, for packages.
    Manual {
        /// The folder, in which man/ and completions/ are created.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum StaticTokenCommand {
    /// Print a new token once, and its entry for the configuration.
    New {
        /// Its name in logs: 1 to 64 characters of A-Z a-z 0-9 - . _
        name: String,
        /// The names of the routes that it is valid for, separated by commas; "*" is all routes. With
        /// --config, they must be routes of the configuration.
        #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "*")]
        routes: Vec<String>,
        /// When it expires, as 2027-01-01T00:00:00Z; never by default.
        #[arg(long, value_name = "DATE-TIME", value_parser = moment)]
        expires: Option<OffsetDateTime>,
        /// What it may do, with commas between the scopes; none by default.
        #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
        scopes: Vec<String>,
    },
}

/// Parses an RFC 3339 date-time in the future.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be an RFC 3339 date-time with its offset, such as 2027-01-01T00:00:00Z")?;
    if moment > OffsetDateTime::now_utc() { Ok(moment) } else { Err("is in the past".to_owned()) }
}

/// Parses the address of a listener.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "must be an IP address with a port, as in 127.0.0.1:9180")
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return print_usage(&without_secrets(error), USAGE),
    };
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(arguments.config.as_deref()),
        Command::Check { strict, show } => check(arguments.config.as_deref(), strict, show),
        Command::Diff { against, ops } => return diff(arguments.config.as_deref(), against.as_deref(), ops),
        Command::Health { ready } => probe(arguments.config.as_deref(), ready),
        Command::Upgrade { ops, timeout } => request(arguments.config.as_deref(), ops, timeout),
        Command::StaticToken(StaticTokenCommand::New { name, routes, expires, scopes }) => {
            new_static_token(arguments.config.as_deref(), &name, (&routes, &scopes), expires)
        }
        Command::Manual { folder } => write_manual(Arguments::command(), &folder).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref(), ExitCode::FAILURE),
    }
}

/// Reports `error`, and returns the exit status: `failure`, unless the reader of the output has closed it.
fn failed(error: &(dyn std::error::Error + 'static), failure: ExitCode) -> ExitCode {
    closed_status(error).unwrap_or_else(|| {
        // If standard error is closed, there is no other place to report to.
        let _ = writeln!(io::stderr(), "holodule-gateway: {error}");
        failure
    })
}

type CommandResult = Result<(), Box<dyn std::error::Error>>;

fn read_config(file: Option<&Path>) -> Result<Config, Problems> {
    Config::load(file, Path::new(".env"))
}

fn check(file: Option<&Path>, strict: bool, show: bool) -> CommandResult {
    let config = read_config(file)?;
    let warnings = config.warnings(OffsetDateTime::now_utc().unix_timestamp());
    let mut out = Output::standard();
    for line in config.effective().iter().filter(|_| show) {
        writeln!(out, "{line}")?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for note in config.notes() {
        writeln!(out, "note: {note}")?;
    }
    if strict && !warnings.is_empty() {
        let warnings = counted(warnings.len() as u64, "warning");
        return Err(format!("the configuration has {warnings}, which --strict refuses").into());
    }
    writeln!(out, "the configuration is valid")?;
    Ok(())
}

fn probe(file: Option<&Path>, ready: bool) -> CommandResult {
    let kind = if ready { Kind::Ready } else { Kind::Alive };
    Ok(health::probe(ops_address(file, Path::new(".env"))?, kind)?)
}

/// Exits with 0 if nothing differs, with 1 if something does, and with 2 on an error.
fn diff(file: Option<&Path>, against: Option<&Path>, ops: Option<SocketAddr>) -> ExitCode {
    let print = |differences: Vec<Difference>| -> io::Result<bool> {
        let mut out = Output::standard();
        differences.iter().try_for_each(|difference| writeln!(out, "{difference}"))?;
        Ok(!differences.is_empty())
    };
    match differences(file, against, ops).and_then(|found| Ok(print(found)?)) {
        Ok(found) => ExitCode::from(u8::from(found)),
        Err(error) => failed(error.as_ref(), ExitCode::from(2)),
    }
}

fn differences(
    file: Option<&Path>,
    against: Option<&Path>,
    ops: Option<SocketAddr>,
) -> Result<Vec<Difference>, Box<dyn std::error::Error>> {
    let config = read_config(file)?;
    if let Some(against) = against {
        let before = read_config(Some(against))?;
        let mut found = config.entries().differences_from(&before.entries());
        found.extend(differences_of_contents(before.values.changed_contents(&config.values)));
        return Ok(found);
    }
    let page: ConfigPage = serde_json::from_slice(&health::fetch(ops.unwrap_or(config.ops_addr), CONFIG_PAGE)?)?;
    Ok(config.entries().differences_from_digests(&page.digests, &page.salt))
}

/// What a running gateway publishes of its configuration.
#[derive(Deserialize)]
struct ConfigPage {
    salt: String,
    digests: Digests,
}

/// Checks the name and the routes against the configuration in `file`.
fn check_names(file: &Path, name: &str, routes: &[String]) -> CommandResult {
    let StaticTokenNames { routes: known, static_tokens } = StaticTokenNames::load(Some(file), Path::new(".env"))?;
    if static_tokens.iter().any(|other| other == name) {
        return Err(format!("a static token with the name {} is in the configuration already", shown_name(name)).into());
    }
    if let Some(route) = routes.iter().find(|route| *route != EVERY_ROUTE && !known.contains(route)) {
        let known = known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "{} is not a route of the configuration, which has {known}; \"*\" means all of them",
            shown(route)
        )
        .into());
    }
    Ok(())
}

fn new_static_token(
    file: Option<&Path>,
    name: &str,
    (routes, scopes): (&[String], &[String]),
    expires: Option<OffsetDateTime>,
) -> CommandResult {
    let token = random_static_token().ok_or("the system gives no random bytes")?;
    let sha256 = Digest::of(token.as_bytes());
    // Validated like the configuration, so that the printed text is valid there.
    StaticToken::new(name, sha256, Routes::All, None).map_err(|error| format!("{} {error}", shown(name)))?;
    Scopes::new(scopes).map_err(|error| format!("--scopes {error}"))?;
    if let Some(file) = file {
        check_names(file, name, routes)?;
    }
    let mut out = Output::standard();
    writeln!(out, "# The token. It is not stored and cannot be shown again:\n{token}\n")?;
    writeln!(out, "# For the gateway's configuration, which is read again on SIGHUP:\n[[static_token]]")?;
    // A JSON string is a valid TOML string.
    writeln!(out, "name = {}\nsha256 = \"{sha256}\"", serde_json::to_string(name)?)?;
    writeln!(out, "routes = {}", serde_json::to_string(routes)?)?;
    if !scopes.is_empty() {
        writeln!(out, "scopes = {}", serde_json::to_string(scopes)?)?;
    }
    if let Some(expires) = expires {
        writeln!(out, "expires = {}", expires.format(&Rfc3339)?)?;
    }
    Ok(())
}

fn serve(file: Option<&Path>) -> CommandResult {
    // Before anything can replace the file of the program.
    let program = Program::current();
    let takeover = Takeover::begin()?;
    let reporter = takeover.as_ref().map(Takeover::reporter).transpose()?;
    let result = serve_from(file, program, takeover);
    if let (Err(error), Some(reporter)) = (&result, reporter) {
        reporter.failed(&error.to_string());
    }
    result
}

fn serve_from(file: Option<&Path>, program: io::Result<Program>, takeover: Option<Takeover>) -> CommandResult {
    let config = read_config(file)?;
    let writer = log::start(config.log)?;
    for warning in config.warnings(OffsetDateTime::now_utc().unix_timestamp()) {
        tracing::warn!(warning, "configuration warning");
    }
    for note in config.notes() {
        tracing::info!(remark = note, "configuration note");
    }
    // Before the gateway announces its addresses: a signal from then on must not kill it without a drain.
    let signals = Signals::catch()?;
    let watched = config.watch.then(|| config.files.clone());
    let mut gateway = Gateway::build_from(config, Some(&writer), takeover)?;
    let upgrades = program.map(|program| gateway.upgrades(program));
    let canceller = upgrades.as_ref().map(Upgrades::canceller).ok();
    let file = file.map(Path::to_owned);
    let read = file.clone();
    let reload = gateway.reloader(move || read_config(read.as_deref())).start()?;
    let accepting = gateway.accepting();
    gateway.run(async move {
        // A signal that arrives meanwhile is handled afterwards, within 2 s.
        accepting.await;
        // Notifications have no effect without systemd.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let of_change = reload.clone();
        let _watch = watched.and_then(|files| watch(files, file, move || of_change.request()));
        let stopped = signals.wait(reload, move || upgrade(&upgrades)).await;
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
        // After an upgrade, the service continues.
        if stopped == Stopped::Signal {
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
        }
    })?;
    Ok(())
}

/// Returns whether a new process has taken over.
fn upgrade(upgrades: &io::Result<Upgrades>) -> bool {
    let process = match upgrades {
        Ok(upgrades) => upgrades.upgrade(),
        Err(error) => {
            tracing::error!(%error, "not upgraded: the path of this program is unknown");
            None
        }
    };
    if let Some(process) = process {
        // Only this process may, as the main process of the unit (NotifyAccess=main).
        let _ = sd_notify::notify(&[NotifyState::MainPid(process)]);
    }
    process.is_some()
}

/// Requests an upgrade of the running gateway.
fn request(file: Option<&Path>, ops: Option<SocketAddr>, limit: u64) -> CommandResult {
    let address = ops.map_or_else(|| ops_address(file, Path::new(".env")), Ok)?;
    if address.port() == 0 {
        return Err("ops_addr has no fixed port: give the address that the gateway announced, with --ops".into());
    }
    let page = request_upgrade(&Address::Tcp(address), Duration::from_secs(limit))?;
    let mut results = Results::standard();
    results.print(format_args!("upgraded: process {} serves", page.process));
    results.finish(ExitCode::SUCCESS)?;
    Ok(())
}

/// Watches the `files` of the configuration in `file`. A failure is logged and prevents nothing else.
fn watch(files: Files, file: Option<PathBuf>, reload: impl Fn() + Send + 'static) -> Option<Watch> {
    let read = move || Config::files_of(file.as_deref(), Path::new(".env"));
    let report = |error: &io::Error| tracing::error!(%error, "the files of the configuration cannot be watched");
    Watch::start(files, read, reload).inspect_err(report).ok()
}
