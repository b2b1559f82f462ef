//! The labels of the metrics: fixed sets, each a type of its own.

/// Which of the two sockets a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// What the public may read, through the gateway.
    Api,
    /// The internal side.
    Admin,
}

impl Listener {
    /// The label value, and the word in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Admin => "admin",
        }
    }
}

/// How a check of credentials ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The password is the user's.
    Success,
    /// The user is there, the password is another.
    WrongPassword,
    /// No such user.
    UnknownUser,
    /// The user is there and disabled, whatever the password.
    Disabled,
    /// The user is there, and the stored password is a hash that cannot be checked.
    Unverifiable,
    /// The request was none.
    Malformed,
    /// The hashing queue was full.
    Busy,
    /// The store did not answer.
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

/// What became of replacing an old form of a password by argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The new form is stored.
    Done,
    /// The stored value had changed in the meantime and was left alone.
    Superseded,
    /// It could not be hashed or stored; the next login tries again.
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

/// The method, where it is a usual one.
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
