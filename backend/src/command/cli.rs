//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::client::Target;
use crate::import::{Encoding, Form};
use crate::server::Address;

/// Serves holodules, the schedule of streams, to a gateway that authenticates the clients.
///
/// It has two listeners: api (what the public may read) and admin (users, imports, metrics, and the verification of
/// credentials). Neither requires a token.
///
/// Every configuration key can be set in the environment, as in ADMIN_ADDR=127.0.0.1:8081; ops/config/backend.toml
/// describes them all.
#[derive(Debug, Parser)]
#[command(name = "holodule-backend", version = holodule_settings::VERSION, max_term_width = 100)]
pub struct Cli {
    /// The configuration, a TOML file [env: HOLODULE_BACKEND_CONFIG]. Without one, the defaults and the environment
    /// apply.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The command; `serve` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT, then finish the requests in flight
    ///
    /// SIGHUP reloads the configuration and applies log.level. Other changes, including secrets, need an upgrade in place
    /// or a restart, and are reported in the log. SIGUSR2 upgrades in place: see `upgrade`.
    Serve,
    /// Read the configuration and report all problems, without starting
    Check {
        /// Also contact MongoDB (with mongodb+srv, DNS too), and list the holodules that are not listed under any day
        /// because their datetime is not of the form yyyymmdd hhmmss. Nothing is written.
        #[arg(long)]
        connect: bool,
        /// First print every key with its effective value and origin; secrets are masked
        #[arg(long)]
        show: bool,
    },
    /// Request /healthz of the running backend; the exit status is 0 if it runs, otherwise 1
    ///
    /// For the health checks of containers. The request goes to the configured admin_addr; no other key is read. A probe
    /// fails after 5 s.
    Health {
        /// Request /readyz instead: whether the store can be used
        #[arg(long)]
        ready: bool,
    },
    /// Replace the running backend by a new process, with the current program and configuration, without losing a request
    ///
    /// It sends SIGUSR2 to the process that serves admin_addr, and waits for the result; no other key is read. The exit
    /// status is 0 if the new process serves, otherwise 1, and the old one continues to serve.
    Upgrade {
        /// The admin listener, if admin_addr has no fixed port: host:port or unix:/path
        #[arg(long, value_name = "ADDRESS")]
        admin: Option<Address>,
        /// How many seconds to wait for the result
        #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = holodule_settings::whole_seconds)]
        timeout: u64,
    },
    /// Write the manual pages and the completions for bash, zsh and fish, for packages
    Manual {
        /// The folder, in which man/ and completions/ are created.
        folder: PathBuf,
    },
    /// The commands that use the admin listener.
    #[command(flatten)]
    Admin(AdminCommand),
}

/// The commands that use the admin listener.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Upload holodules: the collector's CSV, NDJSON or JSON
    ///
    /// Each row is stored under its video_id, or under its key if that is empty, so importing a file again changes
    /// nothing. Rows that cannot be stored, and rows superseded by a later one in the same file, are written to
    /// FILE.rejects.csv with the reason. The rejects of an earlier run are replaced, or removed if every row was
    /// stored. For standard input and other pipes, rejects are written to standard error. A corrected file of rejects
    /// can be imported as it is.
    ///
    /// The encoding (UTF-8, UTF-16 with a byte order mark, cp932), the separator (comma, semicolon, tab) and the line
    /// ends are detected, and reported if they are not UTF-8, commas and line feeds. A time is YYYY-MM-DD HH:MM:SS, or
    /// as written by Excel or ISO 8601 in the order year, month, day: 2027/1/1 20:00, 2027-01-01T20:00. It is Japan
    /// standard time; a time with an offset (Z, +00:00) is converted.
    ///
    /// Exit status: 0 if every row was stored, 2 if some were rejected, 1 if the import failed.
    Import {
        /// The files, imported in order; - is standard input, which needs --format.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The format of the files; auto detects it from the file name, or for a pipe from the content.
        #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
        format: FormatArg,
        /// The encoding of the files: utf-8, utf-16le, utf-16be, cp932 or another name of the WHATWG Encoding Standard;
        /// detected by default.
        #[arg(long, value_name = "NAME")]
        encoding: Option<Encoding>,
        /// Ignore unknown CSV columns instead of rejecting the file.
        #[arg(long)]
        ignore_unknown: bool,
        /// Where to write the rejected rows; for one FILE only.
        #[arg(long, value_name = "FILE")]
        rejects: Option<PathBuf>,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Download all holodules, sorted by time and key
    ///
    /// CSV has the collector's columns, and code as an eighth one if any record has it; NDJSON and JSON have every
    /// stored field.
    ///
    /// An existing file is replaced when the export is complete, and keeps its mode and owner; a new one is readable by
    /// its owner only. Links are followed; pipes and devices are written to.
    ///
    /// Exit status: 0 if the export is complete, 2 if documents that could not be read are missing, 1 if it failed;
    /// then FILE is unchanged.
    Export {
        /// The format; by default from the name of the output, otherwise NDJSON.
        #[arg(long, value_enum)]
        format: Option<FormatArg>,
        /// The output file; standard output by default.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Escape CSV cells that a spreadsheet would execute as formulas, with an apostrophe before = + - @ ' tab and
        /// carriage return; import removes it.
        #[arg(long)]
        spreadsheet: bool,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Write all users, holodules and logouts to a file in the server's backup.folder
    ///
    /// The server writes the file itself, readable by its owner only: stored passwords are never sent over the admin
    /// listener. Existing files are not replaced.
    ///
    /// Exit status: 0 if the backup is complete, 2 if documents that could not be read are missing, 1 if it failed;
    /// then there is no file.
    Backup {
        /// The file's name in the folder [default: holodule-YYYYMMDDTHHMMSSZ.backup]
        #[arg(value_name = "NAME")]
        file: Option<String>,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Restore a file in the server's backup.folder to an empty store
    ///
    /// The file is verified first: a truncated or damaged one changes nothing. All tokens issued before are revoked,
    /// because they may have been revoked after the backup.
    ///
    /// Exit status: 0 if everything was stored, 2 if holodules were left out because another one has the same video_id,
    /// 1 if the restore failed.
    Restore {
        /// The file's name in the folder.
        #[arg(value_name = "NAME")]
        file: String,
        /// First remove all users and holodules from the store
        #[arg(long)]
        replace: bool,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Import and list streamers and their groups, by which clients select holodules
    Streamers {
        /// The command.
        #[command(subcommand)]
        command: StreamersCommand,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
    /// Add, change and list users
    User {
        /// The command.
        #[command(subcommand)]
        command: UserCommand,
        /// Where the admin listener is.
        #[command(flatten)]
        at: At,
    },
}

impl AdminCommand {
    /// The admin listener given by `--admin`.
    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Self::Import { at, .. }
            | Self::Export { at, .. }
            | Self::Backup { at, .. }
            | Self::Restore { at, .. }
            | Self::Streamers { at, .. }
            | Self::User { at, .. } => at.admin.as_ref(),
        }
    }
}

/// A file format, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Detected from the name of the file.
    Auto,
    /// The collector's CSV.
    Csv,
    /// One JSON object per line.
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

/// The commands for streamers.
#[derive(Debug, Subcommand)]
pub enum StreamersCommand {
    /// Import a CSV file of streamers, such as ops/sample/streamers.csv
    ///
    /// UTF-8, with a header: code, name and group, and optionally id (ignored), affiliations (separated by semicolons),
    /// image_name, channel_id and is_retired (true or false). A streamer is stored under its code: a new one is added,
    /// and of a stored one the cells that are not empty are replaced. If any row is wrong, the rows are reported with
    /// their numbers, and nothing is stored.
    Import {
        /// The file; - is standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List the streamers: code, name, group, and whether the streamer is retired
    List,
}

/// The commands for users.
///
/// A password is prompted for twice on a terminal, otherwise read as one line from standard input. It is never an
/// argument, which other users of the host could see.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; prompts for the password, or reads it as one line from standard input
    Add {
        /// The new user's name: 1 to 128 bytes, no control characters.
        name: String,
    },
    /// Change a user's password and revoke their tokens; prompts for it, or reads it as one line from standard input
    Passwd {
        /// The user's name.
        name: String,
    },
    /// Disable a user: no login, and their tokens are rejected
    Disable {
        /// The user's name.
        name: String,
    },
    /// Enable a disabled user, who has to log in again
    Enable {
        /// The user's name.
        name: String,
    },
    /// Delete a user and revoke their tokens
    Delete {
        /// The user's name.
        name: String,
    },
    /// List the users: name, state, how the password is stored, and the roles if there are any
    List,
    /// Add, remove, replace and list the roles of a user
    ///
    /// A role is 1 to 64 printable ASCII characters, without space, " and \. A user has at most 64, with at most 2048
    /// bytes including one between every two. A change revokes no tokens, and is reported to the gateways within a
    /// second.
    Role {
        /// The command.
        #[command(subcommand)]
        command: RoleCommand,
    },
}

/// The commands for roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Add roles to a user; roles that the user already has are unchanged
    Add {
        /// The user's name.
        name: String,
        /// The roles.
        #[arg(required = true, value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Remove roles from a user; roles that the user does not have are ignored
    Remove {
        /// The user's name.
        name: String,
        /// The roles.
        #[arg(required = true, value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Replace all roles of a user; without any, the user has none
    Set {
        /// The user's name.
        name: String,
        /// The roles.
        #[arg(value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// List the roles of a user, one per line
    List {
        /// The user's name.
        name: String,
    },
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
