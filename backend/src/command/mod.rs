//! The administration commands. They use the admin listener, so that they work with both stores and from other hosts.

mod backup;
mod cli;
mod client;
mod export;
mod health;
mod import;
mod rejects;
mod streamers;
mod user;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use holodule_settings::{Results, closed_status, counted, shown_path};

pub use cli::{AdminCommand, At, Cli, Command, StreamersCommand, UserCommand};
pub use client::{Client, ClientError, NotATarget, Target};
pub use health::health;

use crate::server::Address;

/// Timeout of a backup or restore.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Why a command failed, for the user.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Runs a command against the admin listener given on the command line, or else the one that `configured` returns.
///
/// # Errors
/// Any failure of the command.
pub async fn run<E>(
    admin: AdminCommand,
    configured: impl FnOnce() -> Result<Address, E>,
) -> Result<ExitCode, CommandError>
where
    E: Into<CommandError>,
{
    let target = match admin.target() {
        Some(target) => target.clone(),
        None => Target::from(configured().map_err(Into::into)?),
    };
    let client = Client::new(target);
    match admin {
        AdminCommand::Import { files, format, encoding, ignore_unknown, rejects, .. } => {
            let options = import::ImportOptions { form: format.form(), encoding, ignore_unknown, rejects };
            import::run(&client, &files, &options).await
        }
        AdminCommand::Export { format, output, spreadsheet, .. } => {
            export::run(&client, format.and_then(cli::FormatArg::form), output.as_deref(), spreadsheet).await
        }
        AdminCommand::Backup { file, .. } => backup::back_up(&client.waiting(BACKUP_TIMEOUT), file).await,
        AdminCommand::Restore { file, replace, .. } => {
            backup::restore(&client.waiting(BACKUP_TIMEOUT), file, replace).await
        }
        AdminCommand::Streamers { command, .. } => streamers::run(&client, command).await,
        AdminCommand::User { command, .. } => user::run(&client, command).await,
    }
}

/// The exit status if documents are missing in an export or a backup, or holodules were not restored.
const SOME_MISSING: u8 = 2;

/// Prints the result of a change that succeeded, and returns the exit status.
fn done(text: impl std::fmt::Display) -> Result<ExitCode, CommandError> {
    let mut results = Results::standard();
    results.print(text);
    Ok(results.finish(ExitCode::SUCCESS)?)
}

/// Writes a line to standard error.
fn report(text: impl std::fmt::Display) {
    // If standard error is closed, there is no other place to report to, and the exit status must not depend on it.
    let _ = writeln!(std::io::stderr(), "holodule-backend: {text}");
}

/// Reports what was left out, and returns the exit status.
fn missing(count: u64, noun: &str, why: &str) -> ExitCode {
    if count == 0 {
        return ExitCode::SUCCESS;
    }
    report(format_args!("left out: {} {why}", counted(count, noun)));
    ExitCode::from(SOME_MISSING)
}

/// `error` with the file that it is about. That of a closed output is not reported, and remains recognisable.
fn about(file: &Path, error: CommandError) -> CommandError {
    if closed_status(error.as_ref()).is_some() { error } else { format!("{}: {error}", shown_path(file)).into() }
}
