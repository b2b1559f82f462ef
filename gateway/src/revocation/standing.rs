//! What the backend knows of an identity, and what that means for one of its tokens. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::token::{Verified, json_object};

/// The backend's answer about one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) standing: Standing,
    /// The feed that tells when it no longer holds.
    pub(super) feed: String,
}

/// What the backend said of one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether there is such a user, and they are not disabled.
    active: bool,
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
        let active = answer.get("active")?.as_bool()?;
        let password_changed_at = match answer.get("password_changed_at")? {
            Value::Null => None,
            second => Some(second.as_i64()?),
        };
        let ids = answer.get("logged_out")?.as_array()?.iter();
        let logged_out = ids.map(|id| id.as_str().map(Box::from)).collect::<Option<_>>()?;
        let feed = answer.get("feed")?.as_str()?.to_owned();
        Some(Self { standing: Standing { active, password_changed_at, logged_out }, feed })
    }
}

impl Standing {
    /// Of whom there is none.
    pub(super) fn nobody() -> Self {
        Self::default()
    }

    /// Whether `token` still opens the door. One of the second in which the password was changed
    /// does not: it may have been made before the change.
    pub(super) fn lets_pass(&self, token: &Verified) -> bool {
        self.active
            && self.password_changed_at.is_none_or(|changed| token.issued_at > changed)
            && !self.logged_out.contains(&*token.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued_at: i64, id: &str) -> Verified {
        let (identity, id) = ("user01".into(), id.into());
        Verified { identity, issued_at, not_before: issued_at, expires_at: issued_at + 300, id }
    }

    fn standing(rest: &str) -> Option<Standing> {
        let told = Told::parse(format!(r#"{{"identity":"user01",{rest},"feed":"a"}}"#).as_bytes(), "user01")?;
        assert_eq!(told.feed, "a");
        Some(told.standing)
    }

    #[test]
    fn a_user_who_is_there_passes() {
        let standing = standing(r#""active":true,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert!(standing.lets_pass(&token(0, "jti:1")));
    }

    #[test]
    fn nobody_passes_who_is_not_active() {
        let standing = standing(r#""active":false,"password_changed_at":null,"logged_out":[]"#).unwrap();
        assert!(!standing.lets_pass(&token(0, "jti:1")));
    }

    #[test]
    fn a_token_of_the_second_of_the_change_or_before_is_refused() {
        let standing = standing(r#""active":true,"password_changed_at":1000,"logged_out":[]"#).unwrap();
        assert_eq!(
            [999, 1000, 1001].map(|issued_at| standing.lets_pass(&token(issued_at, "jti:1"))),
            [false, false, true]
        );
    }

    #[test]
    fn a_token_that_was_logged_out_is_refused_and_no_other() {
        let standing =
            standing(r#""active":true,"password_changed_at":null,"logged_out":["jti:1","sha256:a"]"#).unwrap();
        assert_eq!(["jti:1", "sha256:a", "jti:2"].map(|id| standing.lets_pass(&token(0, id))), [false, false, true]);
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
