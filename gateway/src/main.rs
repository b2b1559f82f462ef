//! `holodule-gateway`: parse, build, run.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holodule_gateway::config::{Config, Problems, environment};
use holodule_gateway::record::log;
use holodule_gateway::server::{Gateway, stop_signal};

/// A TLS edge that issues and checks JSON Web Tokens.
///
/// It answers POST /auth with a token once the backend has checked the credentials, and
/// forwards the configured routes to the backend for whoever brings a valid one.
///
/// Settings come from the file named by --config, below the environment and an .env file
/// in the working directory: the key `tls.certificate` is TLS_CERTIFICATE there, and the
/// secret `jwt_secret_key` may also be in the file that JWT_SECRET_KEY_FILE names.
/// ops/config/gateway.toml describes every key.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "HOLODULE_GATEWAY_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default).
    Serve,
    /// Validate the configuration and exit: 0 where it is valid, 1 where it is not.
    Check,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(arguments.config.as_deref()),
        Command::Check => check(arguments.config.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "holodule-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn read_config(file: Option<&Path>) -> Result<Config, Problems> {
    let (environment, problems) = environment(Path::new(".env"));
    Problems::join(problems, Config::read(file, environment))
}

fn check(file: Option<&Path>) -> Outcome {
    let config = read_config(file)?;
    let mut out = io::stdout();
    for remark in config.remarks() {
        writeln!(out, "note: {remark}")?;
    }
    writeln!(out, "the configuration is valid")?;
    Ok(())
}

fn serve(file: Option<&Path>) -> Outcome {
    let config = read_config(file)?;
    let writer = log::start(config.log)?;
    for remark in config.remarks() {
        tracing::info!(remark, "worth knowing");
    }
    let gateway = Gateway::build(config, Some(&writer))?;
    // The listeners are bound, so whoever waits for the service can connect. Without
    // systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    gateway.run(async {
        if let Err(error) = stop_signal().await {
            tracing::error!(%error, "signals cannot be waited for; stopping");
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    });
    Ok(())
}
