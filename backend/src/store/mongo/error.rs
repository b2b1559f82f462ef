//! What the driver's errors mean for the store.

use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use super::StoreError;

/// A write would have broken a unique index.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Codes of the server's errors that pass: lost, late or stopping members, a primary
/// that stepped down, a majority that was not reached.
const PASSING: [i32; 17] = [6, 7, 50, 64, 89, 91, 100, 133, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 11601];

/// The store's error, with the server that refused the login. Its text holds no document, for one
/// may hold a password.
pub(super) fn store_error(server: &str, error: &Error) -> StoreError {
    let text = match error.kind.as_ref() {
        // Without the server's words, which may name the user.
        _ if is_refused_login(error) => {
            format!("{server} refuses the login: the user, the password or authSource of the URL is wrong")
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => format!("write error {}", error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("write concern not satisfied: {} ({})", error.code_name, error.code)
        }
        ErrorKind::Command(error) => format!("{} ({})", error.code_name, error.code),
        other => other.to_string(),
    };
    let passing = match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        // The server may come to know the user; until then it does not serve us.
        | ErrorKind::Authentication { .. }
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        _ => code(error).is_some_and(|code| PASSING.contains(&code)) || error.contains_label(RETRYABLE_WRITE_ERROR),
    };
    if passing { StoreError::Unavailable(text) } else { StoreError::Failed(text) }
}

/// Whether the server refused the login, now or when the driver last tried.
fn is_refused_login(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        // The driver takes the server for unknown then, and has the reason in its text alone.
        ErrorKind::ServerSelection { message, .. } => message.contains("AuthenticationFailed"),
        _ => false,
    }
}

/// Whether a write was refused by a unique index.
pub(super) fn is_duplicate_key(error: &Error) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}
