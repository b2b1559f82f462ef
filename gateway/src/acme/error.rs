//! Why a certificate could not be obtained.

use std::io;
use std::path::Path;

use holodule_settings::shown_path;
use instant_acme::{Error, Problem};

/// The longest repeated text of a server, in characters.
const MAX_TEXT: usize = 300;

/// Why a certificate could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The storage.
    #[error("{0}")]
    Storage(String),
    /// The server could not be reached, or its response is not one of ACME.
    #[error("the ACME server cannot be used: {0}")]
    Connection(String),
    /// The server refused a request.
    #[error("the ACME server refused: {0}")]
    Refused(String),
    /// The server could not validate a name.
    #[error("the CA could not validate {name} by {challenge}: {detail}")]
    Validation {
        /// The name.
        name: String,
        /// The challenge.
        challenge: &'static str,
        /// What the server reports.
        detail: String,
    },
    /// The server offers none of the challenges that the listeners can respond to.
    #[error("the ACME server offers for {0} no challenge that a listener of the gateway responds to")]
    NoChallenge(String),
    /// The certificate is not the one that was ordered.
    #[error("the certificate of the ACME server cannot be used: {0}")]
    Certificate(String),
    /// The certificate was not issued in time.
    #[error("the ACME server did not issue the certificate in time")]
    Timeout,
}

impl AcmeError {
    /// Every value of the metric's `result` label: success, and those of [`AcmeError::label`].
    pub const RESULTS: [&str; 7] =
        ["success", "storage", "connection", "refused", "validation", "certificate", "timeout"];

    /// The value of the metric's `result` label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Storage(_) => "storage",
            Self::Connection(_) => "connection",
            Self::Refused(_) => "refused",
            Self::Validation { .. } | Self::NoChallenge(_) => "validation",
            Self::Certificate(_) => "certificate",
            Self::Timeout => "timeout",
        }
    }

    /// The error of an operation on `path`.
    pub(super) fn storage(path: &Path, error: &io::Error) -> Self {
        Self::Storage(format!("{}: {error}", shown_path(path)))
    }
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::Refused(shown_problem(&problem)),
            Error::Timeout(_) => Self::Timeout,
            Error::Unsupported(feature) => Self::Refused(format!("it does not support {feature}")),
            // A fault of the parser quotes the text of the server.
            other => Self::Connection(bounded(&other.to_string())),
        }
    }
}

/// The type of a problem, without the common prefix.
pub(super) fn type_of(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind)
}

/// A problem, in one line.
pub(super) fn shown_problem(problem: &Problem) -> String {
    let mut text = format!("{} ({})", problem.detail.as_deref().unwrap_or("no detail"), type_of(problem));
    for part in &problem.subproblems {
        text.push_str(&format!("; {part}"));
    }
    bounded(&text)
}

/// `text` of a server on one line, of limited length.
pub(super) fn bounded(text: &str) -> String {
    let mut line: String = text.chars().take(MAX_TEXT).map(|one| if one.is_control() { ' ' } else { one }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_server_are_on_one_line_of_limited_length() {
        assert_eq!(bounded("a\r\nforged line"), "a  forged line");
        let long = bounded(&"x".repeat(10_000));
        assert_eq!((long.len(), long.ends_with("x...")), (MAX_TEXT + 3, true));
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates","status":429}"#,
        )
        .unwrap();
        let error = AcmeError::from(Error::Api(problem));
        assert_eq!(error.to_string(), "the ACME server refused: too many certificates (rateLimited)");
        assert!(AcmeError::RESULTS.contains(&error.label()));
    }
}
