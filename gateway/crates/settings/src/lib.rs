//! Reads settings from a TOML file, overridden by a `.env` file and the environment.
//!
//! Both programs use this crate; besides it they share only `holodule-handover`. It defines no keys: each program reads its
//! own from a [`Source`], which collects all problems so that they are reported together. No message contains a secret.
//! The manual pages of both are generated here as well.

mod arguments;
mod bounded;
mod counted;
mod dotenv;
mod echo;
mod environment;
mod file;
mod files;
mod manual;
mod mismatch;
mod misspelt;
mod output;
mod problem;
mod secret;
mod source;
mod unquoted;
mod value;
mod values;
mod version;

pub use arguments::{whole_seconds, without_secrets};
pub use counted::counted;
pub use echo::{shown, shown_key, shown_name, shown_path, with_shown_path};
pub use environment::{Environment, Overlaid, environment, overlay};
pub use file::{Replacement, is_replaceable, replace, resolved};
pub use files::Files;
pub use manual::write_manual;
pub use mismatch::mismatch;
pub use output::{Output, Results, closed_status, print_usage};
pub use problem::{Problem, Problems};
pub use secret::{Secret, exposed, read_secret_file};
pub use source::Source;
pub use values::{Origin, Values};
pub use version::VERSION;
