//! Metric labels, each a type with a fixed set of values.

/// The listener that received a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For public reads, through the gateway.
    Api,
    /// For administrators and the gateway.
    Admin,
}

impl Listener {
    /// The value in labels and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Admin => "admin",
        }
    }
}

/// The result of a verification of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The password is right.
    Success,
    /// The password is wrong.
    WrongPassword,
    /// No such user.
    UnknownUser,
    /// The user is disabled, whatever the password.
    Disabled,
    /// The stored password hash cannot be checked.
    Unverifiable,
    /// The request is malformed.
    Malformed,
    /// The hashing queue was full.
    Busy,
    /// The store is unavailable.
    Unavailable,
}

impl Verification {
    pub(super) const ALL: [Self; 8] = [
        Self::Success,
        Self::WrongPassword,
        Self::UnknownUser,
        Self::Disabled,
        Self::Unverifiable,
        Self::Malformed,
        Self::Busy,
        Self::Unavailable,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::WrongPassword => "wrong_password",
            Self::UnknownUser => "unknown_user",
            Self::Disabled => "disabled",
            Self::Unverifiable => "unverifiable",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The result of replacing a stored password by an argon2id hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The hash is stored.
    Done,
    /// The stored value had changed meanwhile and was not replaced.
    Superseded,
    /// It could not be hashed or stored; the next login retries.
    Failed,
}

impl Upgrade {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Superseded, Self::Failed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }
}

/// The method if it is a common one, otherwise `other`.
pub(super) fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The first digit of the status.
pub(super) fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
