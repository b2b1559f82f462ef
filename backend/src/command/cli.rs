//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::client::Target;
use crate::import::{Encoding, Form};

/// Serves holodules, the schedule of streams, to a gateway that has checked who asks.
///
/// Two listeners: the api (only what the public may read) and the admin side (users,
/// imports, metrics, and the check of credentials). Neither asks for a token.
///
/// Every key of the configuration may come from the environment, as in
/// ADMIN_ADDR=127.0.0.1:8081; ops/config/backend.toml describes them all.
#[derive(Debug, Parser)]
#[command(name = "holodule-backend", version = holodule_settings::VERSION, max_term_width = 100)]
pub struct Cli {
    /// The configuration, a TOML file [env: HOLODULE_BACKEND_CONFIG]. Without one the
    /// defaults and the environment hold.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT, then finish what is in flight
    ///
    /// SIGHUP reads the configuration again and applies log.level. Every other change, those of
    /// secrets too, needs a restart and is named in the log.
    Serve,
    /// Read the configuration, tell everything that is wrong, and start nothing
    Check {
        /// Also contact MongoDB (with mongodb+srv the name server too), and list the holodules that no
        /// day shows because their datetime is not the text yyyymmdd hhmmss. Nothing is written.
        #[arg(long)]
        connect: bool,
        /// Print every key with its value in force and its origin first; secrets are masked
        #[arg(long)]
        show: bool,
    },
    /// What is done over the admin listener.
    #[command(flatten)]
    Admin(AdminCommand),
}

/// The commands that talk to the admin listener.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Upload holodules: the collector's CSV, NDJSON or JSON
    ///
    /// Each row is stored under its video_id, or under its key where that is empty, so that
    /// importing a file again changes nothing. Rows that cannot be stored, and rows that a
    /// later one of the same file supersedes, go to FILE.rejects.csv with the reason; one of an
    /// earlier run is replaced, or removed where every row was stored. For standard input and
    /// other pipes they go to standard error. Corrected, a file of rejects can be imported as it is.
    ///
    /// The encoding (UTF-8, UTF-16 with a byte order mark, cp932), the separator (comma, semicolon,
    /// tab) and the line ends are detected, and reported where they are not UTF-8, the comma and
    /// line feeds. A time is YYYY-MM-DD HH:MM:SS, or as Excel and ISO 8601 write it, in the order
    /// year, month, day: 2027/1/1 20:00, 2027-01-01T20:00. It is Japan's wall clock unless it has an
    /// offset (Z, +00:00), by which it is converted to that.
    ///
    /// Exit status: 0 where every row was stored, 2 where some were rejected, 1 where the
    /// import failed.
    Import {
        /// The files, one after the other; - is standard input, which needs --format.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The form of the files; auto detects it from their names, and for a pipe from the content.
        #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
        format: FormatArg,
        /// The encoding of the files: utf-8, utf-16le, utf-16be, cp932 or another name of the WHATWG
        /// Encoding Standard; detected by default.
        #[arg(long, value_name = "NAME")]
        encoding: Option<Encoding>,
        /// Pass over the columns of CSV that are not known; else they refuse the file.
        #[arg(long)]
        ignore_unknown: bool,
        /// Where the rejected rows go, for one FILE.
        #[arg(long, value_name = "FILE")]
        rejects: Option<PathBuf>,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Download every holodule, by time and key
    ///
    /// CSV is the collector's form, with code as an eighth column where any record has one;
    /// NDJSON and JSON keep every stored field.
    ///
    /// A file that exists is replaced when the export is whole, and keeps its mode and owner; a new
    /// one is for its owner alone. Links are followed, and pipes and devices written to.
    ///
    /// Exit status: 0 where all is there, 2 where documents that cannot be read are missing,
    /// 1 where the export failed; then FILE is left as it was.
    Export {
        /// The form; by default told from the name of the output, else NDJSON.
        #[arg(long, value_enum)]
        format: Option<FormatArg>,
        /// Where to; standard output where no file is named.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Guard the cells of CSV that a spreadsheet would run as formulas, by an apostrophe before
        /// = + - @ ' tab and carriage return; import removes it again.
        #[arg(long)]
        spreadsheet: bool,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Write every user, holodule and logout to a file in the service's backup.folder
    ///
    /// The service writes the file itself, for its owner alone: stored passwords never cross the
    /// admin listener. No file is replaced.
    ///
    /// Exit status: 0 where all is there, 2 where documents that cannot be read are missing,
    /// 1 where the backup failed; then there is no file.
    Backup {
        /// The file's name in the folder [default: holodule-YYYYMMDDTHHMMSSZ.backup]
        #[arg(value_name = "NAME")]
        file: Option<String>,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Store what a file of the service's backup.folder holds, in a store that is empty
    ///
    /// The file is checked first: one that is cut short or damaged changes nothing. Every token
    /// of before ends, since it may have been revoked after the backup.
    ///
    /// Exit status: 0 where all is stored, 2 where holodules were left out, since another one has
    /// their video_id, 1 where the restore failed.
    Restore {
        /// The file's name in the folder.
        #[arg(value_name = "NAME")]
        file: String,
        /// Remove all users and holodules that the store holds first
        #[arg(long)]
        replace: bool,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Make, change and list users
    User {
        /// What to do.
        #[command(subcommand)]
        command: UserCommand,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
}

impl AdminCommand {
    /// The admin listener that was named.
    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Self::Import { at, .. }
            | Self::Export { at, .. }
            | Self::Backup { at, .. }
            | Self::Restore { at, .. }
            | Self::User { at, .. } => at.admin.as_ref(),
        }
    }
}

/// A form of files, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Told from the name of the file.
    Auto,
    /// The collector's CSV.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// One JSON array.
    Json,
}

impl FormatArg {
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Self::Auto => None,
            Self::Csv => Some(Form::Csv),
            Self::Ndjson => Some(Form::Ndjson),
            Self::Json => Some(Form::Json),
        }
    }
}

/// Where the admin listener is.
#[derive(Debug, Args)]
pub struct At {
    /// The admin listener, http://HOST:PORT or unix:/PATH [default: the configured admin_addr]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) admin: Option<Target>,
}

/// What can be done with users.
///
/// A password is asked for twice on a terminal, else read as one line of standard
/// input; it is never an argument, where other users of the host could see it.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; asks for the password, or reads it as one line of standard input
    Add {
        /// The new user's name: 1 to 128 bytes, no control characters.
        name: String,
    },
    /// Change a user's password, which ends their tokens; asks for it, or reads it as one line of standard
    /// input
    Passwd {
        /// The user's name.
        name: String,
    },
    /// Keep a user from logging in, and let their tokens open nothing
    Disable {
        /// The user's name.
        name: String,
    },
    /// Let a disabled user log in again; tokens that have not expired are good again, too
    Enable {
        /// The user's name.
        name: String,
    },
    /// Remove a user for good, and end their tokens
    Delete {
        /// The user's name.
        name: String,
    },
    /// List the users: name, state, how the password is stored
    List,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_a_password_is_not_an_argument() {
        assert!(Cli::try_parse_from(["holodule-backend"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["holodule-backend", "user", "add", "user01", "password01"]).is_err());
        let cli = Cli::try_parse_from(["holodule-backend", "user", "list", "--admin", "unix:/run/a.sock"]).unwrap();
        let Some(Command::Admin(admin)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(admin.target().unwrap().to_string(), "unix:/run/a.sock");
    }
}
