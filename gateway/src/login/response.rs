//! The backend's response to a credential check.

use http::StatusCode;
use serde_json::Value;

use super::LoginError;
use crate::scope::Scopes;
use crate::token;

/// The backend's response for valid credentials.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VerifiedPassword {
    /// The time of the last password change, in seconds since 1970 by the backend's clock.
    pub(super) password_changed_at: Option<i64>,
    /// The mark of the password. Older versions of the backend return none.
    pub(super) password_mark: Option<String>,
    /// The user's roles. Older versions of the backend return none.
    pub(super) roles: Scopes,
}

/// Evaluates the backend's response for `username`.
pub(super) fn verify_response(status: StatusCode, body: &[u8], username: &str) -> Result<VerifiedPassword, LoginError> {
    match status {
        StatusCode::OK => {
            let members = token::json_object(body).unwrap_or_default();
            if members.get("username").and_then(Value::as_str) != Some(username) {
                return Err(LoginError::Unavailable("a 200 that does not name the user".to_owned()));
            }
            let odd = |what| LoginError::Unavailable(format!("a 200 with an odd {what}"));
            let password_changed_at = match members.get("password_changed_at") {
                None | Some(Value::Null) => None,
                Some(second) => Some(second.as_i64().ok_or_else(|| odd("time"))?),
            };
            let password_mark = match members.get("password_mark") {
                None | Some(Value::Null) => None,
                Some(Value::String(mark)) if token::is_password_mark(mark) => Some(mark.clone()),
                Some(_) => return Err(odd("mark")),
            };
            let roles = match members.get("roles") {
                None => Scopes::default(),
                Some(roles) => Scopes::from_json(roles).ok_or_else(|| odd("list of roles"))?,
            };
            Ok(VerifiedPassword { password_changed_at, password_mark, roles })
        }
        // The backend answers 400 for a name that no user can have.
        StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => Err(LoginError::Credentials),
        status => Err(LoginError::Unavailable(format!("status {}", status.as_u16()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_that_names_the_same_user_is_a_success() {
        let verified = |password_changed_at| VerifiedPassword {
            password_changed_at,
            password_mark: None,
            roles: Scopes::default(),
        };
        let named =
            |status: u16, body: &str| verify_response(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "user01");
        assert_eq!(named(200, r#"{"username":"user01"}"#).unwrap(), verified(None));
        assert_eq!(named(200, r#"{"username":"user01","password_changed_at":null}"#).unwrap(), verified(None));
        assert_eq!(named(200, r#"{"username":"user01","password_changed_at":17}"#).unwrap(), verified(Some(17)));
        let marked = named(200, r#"{"username":"user01","password_mark":"0123456789abcdef"}"#).unwrap();
        assert_eq!(marked.password_mark.as_deref(), Some("0123456789abcdef"));
        let with_roles = named(200, r#"{"username":"user01","roles":["editor","viewer"]}"#).unwrap();
        assert_eq!(with_roles.roles.as_str(), "editor viewer");
        assert!(named(200, r#"{"username":"user01","roles":[]}"#).unwrap().roles.is_empty());
        for body in [
            "",
            "{}",
            "true",
            r#"{"username":"user02"}"#,
            r#"{"username":["user01"]}"#,
            r#"{"username":"user01","username":"user01"}"#,
            r#"{"username":"user01","password_changed_at":"17"}"#,
            r#"{"username":"user01","password_changed_at":17.5}"#,
            r#"{"username":"user01","password_mark":"0123456789abcde"}"#,
            r#"{"username":"user01","password_mark":17}"#,
            r#"{"username":"user01","roles":null}"#,
            r#"{"username":"user01","roles":"editor"}"#,
            r#"{"username":"user01","roles":["a b"]}"#,
        ] {
            assert!(matches!(named(200, body), Err(LoginError::Unavailable(_))), "{body}");
        }
        for status in [201, 204, 302, 403, 404, 429, 500, 503] {
            assert!(matches!(named(status, r#"{"username":"user01"}"#), Err(LoginError::Unavailable(_))), "{status}");
        }
        assert!(matches!(named(401, ""), Err(LoginError::Credentials)));
        assert!(matches!(named(400, ""), Err(LoginError::Credentials)));
    }
}
