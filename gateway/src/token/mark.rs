//! The mark of a password in a token's `jti`: which state of the account the token was issued for.
//!
//! The backend computes it, and returns another one after each change of the password. A gateway compares the
//! mark of a token with the backend's, so that no two clocks decide whether the token is older than the change.

/// The length of the random part of a `jti`, in characters.
const RANDOM: usize = 32;

/// The length of a mark, in characters.
const MARK: usize = 16;

/// How far the clocks of two gateways, or of a gateway and its backend, may differ, in seconds.
pub const MAX_CLOCK_SKEW: u32 = 60;

/// Whether `text` is a mark: 16 lower-case hexadecimal digits.
pub fn is_password_mark(text: &str) -> bool {
    text.len() == MARK && is_hexadecimal(text)
}

/// The `jti` of a token with the random part `random`, 32 lower-case hexadecimal digits, and with `mark`.
pub(crate) fn marked_jti(random: &str, mark: &str) -> String {
    format!("{random}.{mark}")
}

/// The mark in a `jti`; `None` where the token was issued by the original service or an older version.
pub(super) fn mark_of(jti: &str) -> Option<&str> {
    let (random, mark) = jti.split_once('.')?;
    (random.len() == RANDOM && is_hexadecimal(random) && is_password_mark(mark)).then_some(mark)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_an_issued_jti() {
        let (random, mark) = ("0123456789abcdef0123456789abcdef", "00ff00ff00ff00ff");
        let jti = marked_jti(random, mark);
        assert_eq!(mark_of(&jti), Some(mark));
        for other in [random, mark, &jti[1..], &format!("{jti}0"), &jti.to_uppercase(), &format!("{jti}.{mark}"), "."] {
            assert_eq!(mark_of(other), None, "{other}");
        }
    }
}
