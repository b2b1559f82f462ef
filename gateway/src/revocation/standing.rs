//! What the backend knows of an identity, and what that means for one of its tokens. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

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
    /// The reason as the access log has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoUser => "no_user",
            Self::Disabled => "disabled",
            Self::PasswordChanged => "password_changed",
            Self::LoggedOut => "logged_out",
        }
    }
}

/// The backend's answer about one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) standing: Standing,
    /// The feed that tells when it no longer holds.
    pub(super) feed: String,
}

/// What the backend said of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Why the account is not active, where it is not.
    inactive: Option<RevocationReason>,
    /// The mark of the tokens that were issued since the password was set, where the backend returns one.
    password_mark: Option<Box<str>>,
    /// The second in which the password was last changed, since 1970.
    password_changed_at: Option<i64>,
    /// The ids of this identity's tokens that were logged out and have not expired.
    logged_out: BTreeSet<Box<str>>,
}

impl Told {
    /// Reads the backend's answer about `identity`. `None` is no such answer: a member that is
    /// missing, of another type, or about somebody else.
    pub(super) fn parse(body: &[u8], identity: &str) -> Option<Self> {
        let answer = json_object(body).ok()?;
        if answer.get("identity")?.as_str()? != identity {
            return None;
        }
        let inactive = match (answer.get("active")?.as_bool()?, answer.get("reason").and_then(Value::as_str)) {
            (true, _) => None,
            (false, Some("disabled")) => Some(RevocationReason::Disabled),
            (false, _) => Some(RevocationReason::NoUser),
        };
        let password_mark = match answer.get("password_mark") {
            // Older versions of the backend have none.
            None | Some(Value::Null) => None,
            Some(mark) => Some(mark.as_str().filter(|mark| is_password_mark(mark))?.into()),
        };
        let password_changed_at = match answer.get("password_changed_at")? {
            Value::Null => None,
            second => Some(second.as_i64()?),
        };
        let ids = answer.get("logged_out")?.as_array()?.iter();
        let logged_out = ids.map(|id| id.as_str().map(Box::from)).collect::<Option<_>>()?;
        let feed = answer.get("feed")?.as_str()?.to_owned();
        Some(Self { standing: Standing { inactive, password_mark, password_changed_at, logged_out }, feed })
    }
}

impl Standing {
    /// Of whom there is none.
    pub(super) fn nobody() -> Self {
        let inactive = Some(RevocationReason::NoUser);
        Self { inactive, password_mark: None, password_changed_at: None, logged_out: BTreeSet::new() }
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
    /// The marks decide where both have one. Else the time of the token, by its issuer's clock, is compared with
    /// the time of the change, by the backend's: a token of the second of the change may have been issued before
    /// it. Tokens of the original service, and of older versions, have no mark.
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
        let (identity, id) = ("user01".into(), id.into());
        Verified { identity, issued_at, not_before: issued_at, expires_at: issued_at + 300, id, password_mark: None }
    }

    fn standing(rest: &str) -> Option<Standing> {
        let told = Told::parse(format!(r#"{{"identity":"user01",{rest},"feed":"a"}}"#).as_bytes(), "user01")?;
        assert_eq!(told.feed, "a");
        Some(told.standing)
    }

    #[test]
    fn a_user_who_is_there_passes() {
        let standing = standing(r#""active":true,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert_eq!(standing.check(&token(0, "jti:1")), Ok(()));
    }

    #[test]
    fn nobody_passes_who_is_not_active() {
        let standing = standing(r#""active":false,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert_eq!(standing.check(&token(0, "jti:1")), Err(RevocationReason::NoUser));
        for (reason, expected) in [
            ("\"disabled\"", RevocationReason::Disabled),
            ("\"no_user\"", RevocationReason::NoUser),
            ("null", RevocationReason::NoUser),
        ] {
            let rest = format!(r#""active":false,"reason":{reason},"password_changed_at":null,"logged_out":[]"#);
            assert_eq!(self::standing(&rest).unwrap().check(&token(0, "jti:1")), Err(expected));
        }
    }

    #[test]
    fn a_token_of_the_second_of_the_change_or_before_is_refused() {
        let standing = standing(r#""active":true,"password_changed_at":1000,"logged_out":[]"#).unwrap();
        assert_eq!(
            [999, 1000, 1001].map(|issued_at| standing.check(&token(issued_at, "jti:1")).is_ok()),
            [false, false, true]
        );
    }

    #[test]
    fn a_token_that_was_logged_out_is_refused_and_no_other() {
        let standing =
            standing(r#""active":true,"password_changed_at":null,"logged_out":["jti:1","sha256:a"]"#).unwrap();
        let refused = Err(RevocationReason::LoggedOut);
        assert_eq!(["jti:1", "sha256:a", "jti:2"].map(|id| standing.check(&token(0, id))), [refused, refused, Ok(())]);
    }

    #[test]
    fn marks_decide_where_both_have_one_whatever_the_clocks_say() {
        let marked = |issued_at, mark: &str| Verified { password_mark: Some(mark.into()), ..token(issued_at, "jti:1") };
        let (current, former) = ("00000000000000aa", "00000000000000bb");
        let refused = Err(RevocationReason::PasswordChanged);
        let new = standing(&format!(
            r#""active":true,"password_changed_at":1000,"password_mark":"{current}","logged_out":[]"#
        ))
        .unwrap();
        for issued_at in [0, 940, 1000, 1060, 2000] {
            assert_eq!(new.check(&marked(issued_at, current)), Ok(()), "{issued_at}");
            assert_eq!(new.check(&marked(issued_at, former)), refused, "{issued_at}");
        }
        // The time decides over a token of the original service.
        assert_eq!([999, 1000, 1001].map(|at| new.check(&token(at, "sha256:a"))), [refused, refused, Ok(())]);
        // A backend of an older version beside the one that verified the login.
        let old = standing(r#""active":true,"password_changed_at":1000,"logged_out":[]"#).unwrap();
        assert_eq!(old.check(&marked(1001, current)), Ok(()));
        assert_eq!(old.check(&marked(1000, current)), refused);
    }

    #[test]
    fn what_is_not_wholly_understood_is_no_answer() {
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
            r#""active":false,"active":true,"password_changed_at":null,"logged_out":[]"#,
        ] {
            assert_eq!(standing(rest), None, "{rest}");
        }
        let whole = br#"{"identity":"user02","active":true,"password_changed_at":null,"logged_out":[],"feed":"a"}"#;
        assert_eq!(Told::parse(whole, "user01"), None, "about somebody else");
        assert!(Told::parse(whole, "user02").is_some());
        let unfollowed = br#"{"identity":"user02","active":true,"password_changed_at":null,"logged_out":[]}"#;
        assert_eq!(Told::parse(unfollowed, "user02"), None, "of no feed");
        assert_eq!(Told::parse(b"[]", "user01"), None);
    }
}
