//! The status of an account, and whether it revokes a token. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::scope::Scopes;
use crate::token::{Verified, is_password_mark, json_object};

/// Why a token was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    /// The identity is not a user.
    NoUser,
    /// The user is disabled.
    Disabled,
    /// The password was changed after the token was issued.
    PasswordChanged,
    /// The token was logged out.
    LoggedOut,
}

impl RevocationReason {
    /// The reason in the access log.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoUser => "no_user",
            Self::Disabled => "disabled",
            Self::PasswordChanged => "password_changed",
            Self::LoggedOut => "logged_out",
        }
    }
}

/// The backend's response about one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckResponse {
    pub(super) status: AccountStatus,
    /// The id of the feed that reports changes of the account.
    pub(super) feed: String,
}

/// The status of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountStatus {
    /// Why the account is not active; `None` if it is.
    inactive: Option<RevocationReason>,
    /// The mark of the tokens issued since the password was set, if the backend returns one.
    password_mark: Option<Box<str>>,
    /// When the password was last changed, in seconds since 1970.
    password_changed_at: Option<i64>,
    /// The ids of the logged-out tokens that have not expired.
    logged_out: BTreeSet<Box<str>>,
    /// What the user may do; `None` if the backend returns no roles, as older versions do.
    roles: Option<Scopes>,
}

impl CheckResponse {
    /// Parses the response about `identity`. `None` if a member is missing or of another type, or if it is about
    /// another identity.
    pub(super) fn parse(body: &[u8], identity: &str) -> Option<Self> {
        let response = json_object(body).ok()?;
        if response.get("identity")?.as_str()? != identity {
            return None;
        }
        let inactive = match (response.get("active")?.as_bool()?, response.get("reason").and_then(Value::as_str)) {
            (true, _) => None,
            (false, Some("disabled")) => Some(RevocationReason::Disabled),
            (false, _) => Some(RevocationReason::NoUser),
        };
        let password_mark = match response.get("password_mark") {
            // Older versions of the backend return none.
            None | Some(Value::Null) => None,
            Some(mark) => Some(mark.as_str().filter(|mark| is_password_mark(mark))?.into()),
        };
        let password_changed_at = match response.get("password_changed_at")? {
            Value::Null => None,
            second => Some(second.as_i64()?),
        };
        let ids = response.get("logged_out")?.as_array()?.iter();
        let logged_out = ids.map(|id| id.as_str().map(Box::from)).collect::<Option<_>>()?;
        let roles = match response.get("roles") {
            None => None,
            Some(roles) => Some(Scopes::from_json(roles)?),
        };
        let feed = response.get("feed")?.as_str()?.to_owned();
        Some(Self { status: AccountStatus { inactive, password_mark, password_changed_at, logged_out, roles }, feed })
    }
}

impl AccountStatus {
    /// The status of an identity that is not a user.
    pub(super) fn no_user() -> Self {
        let inactive = Some(RevocationReason::NoUser);
        Self { inactive, password_mark: None, password_changed_at: None, logged_out: BTreeSet::new(), roles: None }
    }

    /// What the user may do; `None` if unknown.
    pub(super) fn roles(&self) -> Option<&Scopes> {
        self.roles.as_ref()
    }

    /// Checks that `token` is not revoked.
    ///
    /// # Errors
    /// The first [`RevocationReason`] for which it is.
    pub(super) fn check(&self, token: &Verified) -> Result<(), RevocationReason> {
        if let Some(reason) = self.inactive {
            return Err(reason);
        }
        if !self.is_of_this_password(token) {
            return Err(RevocationReason::PasswordChanged);
        }
        if self.logged_out.contains(&*token.id) { Err(RevocationReason::LoggedOut) } else { Ok(()) }
    }

    /// Whether `token` was issued after the password was changed.
    ///
    /// If both have a mark, the marks decide. Otherwise the time of the token (the issuer's clock) is compared with
    /// the time of the change (the backend's clock). A token of the same second may have been issued before the
    /// change, and is refused. Tokens of the original service and of older versions have no mark.
    fn is_of_this_password(&self, token: &Verified) -> bool {
        match (&self.password_mark, &token.password_mark) {
            (Some(current), Some(mark)) => current == mark,
            _ => self.password_changed_at.is_none_or(|changed| token.issued_at > changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued_at: i64, id: &str) -> Verified {
        let (identity, id, scopes) = ("user01".into(), id.into(), Scopes::default());
        let (not_before, expires_at) = (issued_at, issued_at + 300);
        Verified { identity, issued_at, not_before, expires_at, id, password_mark: None, scopes }
    }

    fn status(rest: &str) -> Option<AccountStatus> {
        let response =
            CheckResponse::parse(format!(r#"{{"identity":"user01",{rest},"feed":"a"}}"#).as_bytes(), "user01")?;
        assert_eq!(response.feed, "a");
        Some(response.status)
    }

    #[test]
    fn an_active_account_is_accepted() {
        let status = status(r#""active":true,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert_eq!(status.check(&token(0, "jti:1")), Ok(()));
    }

    #[test]
    fn an_inactive_account_is_refused_with_its_reason() {
        let status = status(r#""active":false,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert_eq!(status.check(&token(0, "jti:1")), Err(RevocationReason::NoUser));
        for (reason, expected) in [
            ("\"disabled\"", RevocationReason::Disabled),
            ("\"no_user\"", RevocationReason::NoUser),
            ("null", RevocationReason::NoUser),
        ] {
            let rest = format!(r#""active":false,"reason":{reason},"password_changed_at":null,"logged_out":[]"#);
            assert_eq!(self::status(&rest).unwrap().check(&token(0, "jti:1")), Err(expected));
        }
    }

    #[test]
    fn a_token_of_the_second_of_a_password_change_or_before_is_refused() {
        let status = status(r#""active":true,"password_changed_at":1000,"logged_out":[]"#).unwrap();
        assert_eq!(
            [999, 1000, 1001].map(|issued_at| status.check(&token(issued_at, "jti:1")).is_ok()),
            [false, false, true]
        );
    }

    #[test]
    fn only_logged_out_tokens_are_refused() {
        let status = status(r#""active":true,"password_changed_at":null,"logged_out":["jti:1","sha256:a"]"#).unwrap();
        let refused = Err(RevocationReason::LoggedOut);
        assert_eq!(["jti:1", "sha256:a", "jti:2"].map(|id| status.check(&token(0, id))), [refused, refused, Ok(())]);
    }

    #[test]
    fn marks_decide_independently_of_the_clocks() {
        let marked = |issued_at, mark: &str| Verified { password_mark: Some(mark.into()), ..token(issued_at, "jti:1") };
        let (current, former) = ("00000000000000aa", "00000000000000bb");
        let refused = Err(RevocationReason::PasswordChanged);
        let new =
            status(&format!(r#""active":true,"password_changed_at":1000,"password_mark":"{current}","logged_out":[]"#))
                .unwrap();
        for issued_at in [0, 940, 1000, 1060, 2000] {
            assert_eq!(new.check(&marked(issued_at, current)), Ok(()), "{issued_at}");
            assert_eq!(new.check(&marked(issued_at, former)), refused, "{issued_at}");
        }
        // A token of the original service has no mark, so that the time decides.
        assert_eq!([999, 1000, 1001].map(|at| new.check(&token(at, "sha256:a"))), [refused, refused, Ok(())]);
        // A backend of an older version returns no mark, although another backend issued the token with one.
        let old = status(r#""active":true,"password_changed_at":1000,"logged_out":[]"#).unwrap();
        assert_eq!(old.check(&marked(1001, current)), Ok(()));
        assert_eq!(old.check(&marked(1000, current)), refused);
    }

    #[test]
    fn no_roles_are_not_unknown_roles() {
        let roles = |rest: &str| {
            let status = status(&format!(r#""active":true,"password_changed_at":null,"logged_out":[]{rest}"#)).unwrap();
            status.roles().map(|roles| roles.as_str().to_owned())
        };
        assert_eq!(roles(""), None);
        assert_eq!(roles(r#","roles":[]"#).as_deref(), Some(""));
        assert_eq!(roles(r#","roles":["editor","viewer"]"#).as_deref(), Some("editor viewer"));
    }

    #[test]
    fn an_incomplete_or_malformed_response_is_rejected() {
        for rest in [
            r#""active":true,"password_changed_at":null"#,
            r#""active":true,"logged_out":[]"#,
            r#""password_changed_at":null,"logged_out":[]"#,
            r#""active":1,"password_changed_at":null,"logged_out":[]"#,
            r#""active":true,"password_changed_at":"1000","logged_out":[]"#,
            r#""active":true,"password_changed_at":1000.5,"logged_out":[]"#,
            r#""active":true,"password_changed_at":null,"logged_out":[1]"#,
            r#""active":true,"password_changed_at":null,"logged_out":null"#,
            r#""active":true,"password_changed_at":null,"password_mark":"x","logged_out":[]"#,
            r#""active":true,"password_changed_at":null,"password_mark":7,"logged_out":[]"#,
            r#""active":true,"password_changed_at":null,"logged_out":[],"roles":null"#,
            r#""active":true,"password_changed_at":null,"logged_out":[],"roles":"editor""#,
            r#""active":true,"password_changed_at":null,"logged_out":[],"roles":["a b"]"#,
            r#""active":false,"active":true,"password_changed_at":null,"logged_out":[]"#,
        ] {
            assert_eq!(status(rest), None, "{rest}");
        }
        let complete = br#"{"identity":"user02","active":true,"password_changed_at":null,"logged_out":[],"feed":"a"}"#;
        assert_eq!(CheckResponse::parse(complete, "user01"), None, "another identity");
        assert!(CheckResponse::parse(complete, "user02").is_some());
        let without_feed = br#"{"identity":"user02","active":true,"password_changed_at":null,"logged_out":[]}"#;
        assert_eq!(CheckResponse::parse(without_feed, "user02"), None, "no feed");
        assert_eq!(CheckResponse::parse(b"[]", "user01"), None);
    }
}
