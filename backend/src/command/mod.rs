//! The commands for people: they talk to the admin listener, so that they serve both
//! stores, and from another host.

mod backup;
mod cli;
mod client;
mod export;
mod import;
mod rejects;
mod user;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

pub use cli::{AdminCommand, At, Cli, Command, UserCommand};
pub use client::{Client, ClientError, NotATarget, Target};

use crate::server::Address;

/// How long a backup or a restore may take.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Why a command failed, in words for the person who gave it.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Runs one command against the admin listener that it names, else the one that
/// `configured` tells.
///
/// # Errors
/// Whatever kept it from being done, in words.
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
            let options = import::Options { form: format.form(), encoding, ignore_unknown, rejects };
            import::run(&client, &files, &options).await
        }
        AdminCommand::Export { format, output, spreadsheet, .. } => {
            export::run(&client, format.and_then(cli::FormatArg::form), output.as_deref(), spreadsheet).await
        }
        AdminCommand::Backup { file, .. } => backup::back_up(&client.waiting(BACKUP_TIMEOUT), file).await,
        AdminCommand::Restore { file, replace, .. } => {
            backup::restore(&client.waiting(BACKUP_TIMEOUT), file, replace).await
        }
        AdminCommand::User { command, .. } => user::run(&client, command).await,
    }
}

/// Writes a line for whoever gave the command.
fn print(text: impl std::fmt::Display) -> Result<(), CommandError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Writes a line of what is wrong.
fn complain(text: impl std::fmt::Display) -> Result<(), CommandError> {
    Ok(writeln!(std::io::stderr(), "holodule-backend: {text}")?)
}
