//! Converts errors of the driver.

use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use super::StoreError;

/// The server's code for a violated unique index.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// The server's codes of transient errors: lost, slow or stopping members, a primary that stepped down, a missing
/// majority.
const TRANSIENT: [i32; 17] = [6, 7, 50, 64, 89, 91, 100, 133, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 11601];

/// Converts an error. The text contains the server if it rejected the login, and no document, which may contain a
/// password.
pub(super) fn store_error(server: &str, error: &Error) -> StoreError {
    let text = match error.kind.as_ref() {
        // Without the server's message, which may contain the username.
        _ if is_rejected_login(error) => {
            format!("{server} rejects the login: the user, the password or authSource of the URL is wrong")
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => format!("write error {}", error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("write concern not satisfied: {} ({})", error.code_name, error.code)
        }
        ErrorKind::Command(error) => format!("{} ({})", error.code_name, error.code),
        other => other.to_string(),
    };
    let transient = match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        // The user may be created later; until then the store is unavailable.
        | ErrorKind::Authentication { .. }
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        _ => code(error).is_some_and(|code| TRANSIENT.contains(&code)) || error.contains_label(RETRYABLE_WRITE_ERROR),
    };
    if transient { StoreError::Unavailable(text) } else { StoreError::Failed(text) }
}

/// Whether the server rejected the login, now or in the driver's last attempt.
fn is_rejected_login(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        // The driver then treats the server as unknown, and has the reason in the message only.
        ErrorKind::ServerSelection { message, .. } => message.contains("AuthenticationFailed"),
        _ => false,
    }
}

/// Whether a write violated a unique index.
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
