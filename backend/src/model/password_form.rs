//! Recognises the form of a stored password from its value.
//!
//! A value that begins like a hash is never compared as plain text: anyone who had read it in the database could log in
//! with it. The opposite mistake locks a user out. So a value is a hash only if a password is very unlikely to look the
//! same: if a prefix names the scheme or, for short prefixes, if prefix and structure match. A string of hexadecimal
//! digits, or one that merely contains `$`, is plain text.

use serde::{Deserialize, Serialize};

/// The form of a stored password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PasswordForm {
    /// Argon2: a PHC string, as this service writes it or of another variant, or Django's form.
    Argon2id,
    /// bcrypt: the original's later versions, Django's, or passlib's.
    Bcrypt,
    /// PBKDF2, as Werkzeug, Django and passlib store it.
    Pbkdf2,
    /// scrypt, as Werkzeug, Django and passlib store it.
    Scrypt,
    /// An unsupported hash, or the mark of a locked account: no password matches.
    Unsupported,
    /// Plain text, from the original.
    Plain,
}

/// Prefixes of supported forms.
const SUPPORTED: [(&str, PasswordForm); 16] = [
    ("$argon2", PasswordForm::Argon2id),
    ("argon2$", PasswordForm::Argon2id),
    ("$2$", PasswordForm::Bcrypt),
    ("$2a$", PasswordForm::Bcrypt),
    ("$2b$", PasswordForm::Bcrypt),
    ("$2x$", PasswordForm::Bcrypt),
    ("$2y$", PasswordForm::Bcrypt),
    ("bcrypt$", PasswordForm::Bcrypt),
    ("bcrypt_sha256$", PasswordForm::Bcrypt),
    ("$bcrypt-sha256$", PasswordForm::Bcrypt),
    ("$pbkdf2", PasswordForm::Pbkdf2),
    ("pbkdf2:", PasswordForm::Pbkdf2),
    ("pbkdf2_", PasswordForm::Pbkdf2),
    ("$scrypt$", PasswordForm::Scrypt),
    ("scrypt:", PasswordForm::Scrypt),
    ("scrypt$", PasswordForm::Scrypt),
];

/// Prefixes of unsupported hashes: crypt(5), Apache, passlib, Werkzeug, PostgreSQL.
const UNSUPPORTED: [&str; 17] = [
    "$1$",
    "$3$",
    "$5$",
    "$6$",
    "$7$",
    "$apr1$",
    "$gy$",
    "$md5$",
    "$md5,",
    "$p5k2$",
    "$scram$",
    "$sha1$",
    "$y$",
    "SCRAM-SHA-",
    "grub.pbkdf2.",
    "pbkdf2$",
    "plain$$",
];

/// Prefixes of schemes in braces (`{SSHA}`, `{bcrypt}`, `{PBKDF2-SHA256}`) of LDAP servers, mail servers and Spring
/// Security, in lower case and compared case-insensitively.
const SCHEMES: [&str; 20] = [
    "argon2",
    "bcrypt",
    "blf-crypt",
    "cleartext",
    "cram-md5",
    "crypt",
    "digest-md5",
    "fshp",
    "md4",
    "md5",
    "noop",
    "pbkdf2",
    "pkcs5s2",
    "plain",
    "scram-sha",
    "scrypt",
    "sha",
    "smd5",
    "ssha",
    "x-pbkdf2",
];

/// Methods of Django and Werkzeug without a key derivation function, as `sha1$SALT$DIGEST`, with the length of the
/// digest in characters.
const DIGESTS: [(&str, usize); 7] =
    [("crypt", 13), ("md5", 32), ("sha1", 40), ("sha224", 56), ("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// The minimum length of a hash that is recognised within other characters, in bytes. Salted hashes of bcrypt and later
/// functions are not shorter.
const WRAPPED_LENGTH: usize = 40;

/// Values that mark an account without a password.
const LOCKED: [&str; 6] = ["!", "!!", "!*", "*", "*LK*", "*NP*"];

impl PasswordForm {
    /// The form of a stored value.
    ///
    /// A damaged hash has the form of its prefix, and no password matches it.
    pub fn of(stored: &str) -> Self {
        let prefixed = SUPPORTED.iter().find(|(prefix, _)| stored.starts_with(prefix));
        match prefixed {
            Some((_, form)) => *form,
            None if is_unsupported(stored) || is_locked(stored) || is_wrapped(stored) => Self::Unsupported,
            None => Self::Plain,
        }
    }
}

fn is_unsupported(stored: &str) -> bool {
    UNSUPPORTED.iter().any(|prefix| stored.starts_with(prefix))
        || in_braces(stored).is_some_and(|name| SCHEMES.iter().any(|scheme| name.starts_with(scheme)))
        || is_digest(stored)
        || is_phpass(stored)
}

/// The name of the scheme in `{NAME}…`, in lower case.
fn in_braces(stored: &str) -> Option<String> {
    let (name, _) = stored.strip_prefix('{')?.split_once('}')?;
    Some(name.to_ascii_lowercase())
}

fn is_digest(stored: &str) -> bool {
    let Some((method, rest)) = stored.split_once('$') else { return false };
    let Some((_, digest)) = rest.rsplit_once('$') else { return false };
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || (method == "crypt" && is_crypt64(byte));
    DIGESTS.iter().any(|(name, length)| *name == method && *length == digest.len()) && digest.bytes().all(is_digit)
}

/// phpass (`$P$`, `$H$`: 34 characters) and Drupal (`$S$`: 55 characters).
fn is_phpass(stored: &str) -> bool {
    let long_enough = match stored.get(..3) {
        Some("$P$" | "$H$") => stored.len() == 34,
        Some("$S$") => stored.len() == 55,
        _ => false,
    };
    long_enough && stored.bytes().skip(3).all(is_crypt64)
}

/// The alphabet of crypt(5).
fn is_crypt64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"./".contains(&byte)
}

/// A hash that was altered before it was stored: preceded by white space or a byte order mark, in quotes, in Python's
/// `b'…'`, or in capitals. A shorter value may be a password.
fn is_wrapped(stored: &str) -> bool {
    if stored.len() < WRAPPED_LENGTH {
        return false;
    }
    let trimmed = stored.trim_start_matches(|first: char| first.is_whitespace() || first == '\u{feff}');
    let bare = trimmed.strip_prefix("b'").or_else(|| trimmed.strip_prefix("b\"")).unwrap_or(trimmed);
    let bare = bare.trim_start_matches(['\'', '"']);
    let lower = bare.to_ascii_lowercase();
    SUPPORTED.iter().any(|(prefix, _)| lower.starts_with(prefix)) || (bare.len() < stored.len() && is_unsupported(bare))
}

/// Marks of accounts without a password: those of shadow(5), Django's `!` followed by forty characters, a hash after
/// `!` (`usermod --lock`), and MySQL's `*` followed by forty digits.
fn is_locked(stored: &str) -> bool {
    if LOCKED.contains(&stored) {
        return true;
    }
    if let Some(rest) = stored.strip_prefix('!') {
        let unusable = rest.len() == 40 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return unusable || PasswordForm::of(rest.trim_start_matches('!')) != PasswordForm::Plain;
    }
    let upper_hex = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    stored.strip_prefix('*').is_some_and(|rest| rest.len() == 40 && rest.bytes().all(upper_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_begins_like_a_hash_is_never_plain_text() {
        for (stored, form) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", PasswordForm::Argon2id),
            ("$argon2id$damaged", PasswordForm::Argon2id),
            ("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", PasswordForm::Argon2id),
            ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", PasswordForm::Bcrypt),
            ("$2y$", PasswordForm::Bcrypt),
            ("$2$x", PasswordForm::Bcrypt),
            ("bcrypt_sha256$$2b$12$x", PasswordForm::Bcrypt),
            ("$bcrypt-sha256$v=2,t=2b,r=12$salt$hash", PasswordForm::Bcrypt),
            ("pbkdf2:sha256:1000000$salt$00", PasswordForm::Pbkdf2),
            ("pbkdf2_sha256$870000$salt$aGFzaA==", PasswordForm::Pbkdf2),
            ("$pbkdf2-sha512$25000$c2FsdA$aGFzaA", PasswordForm::Pbkdf2),
            ("$pbkdf2$", PasswordForm::Pbkdf2),
            ("scrypt:32768:8:1$salt$00", PasswordForm::Scrypt),
            ("scrypt:", PasswordForm::Scrypt),
            ("scrypt$16384$salt$8$5$aGFzaA==", PasswordForm::Scrypt),
            ("$scrypt$ln=16,r=8,p=1$c2FsdA$aGFzaA", PasswordForm::Scrypt),
        ] {
            assert_eq!(PasswordForm::of(stored), form, "{stored:?}");
        }
    }

    #[test]
    fn hashes_of_other_systems_and_locked_accounts_are_unsupported() {
        let hex = "0123456789abcdef";
        for stored in [
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0".to_owned(),
            "$5$rounds=1000$salt$hash".to_owned(),
            "$6$short".to_owned(),
            "$7$C6..../....salt$hash".to_owned(),
            "$y$j9T$salt$hash".to_owned(),
            "$gy$j9T$salt$hash".to_owned(),
            "$apr1$salt$hash".to_owned(),
            "$md5,rounds=904$salt$$hash".to_owned(),
            "$sha1$40000$salt$hash".to_owned(),
            "{SSHA}abc".to_owned(),
            "{ssha512}abc".to_owned(),
            "{CRYPT}$6$x".to_owned(),
            "{PBKDF2-SHA256}10000$x$y".to_owned(),
            "{noop}password01".to_owned(),
            format!("sha1$salt${}", &hex.repeat(3)[..40]),
            format!("md5$${}", hex.repeat(2)),
            format!("sha256$salt${}", hex.repeat(4)),
            "plain$$password01".to_owned(),
            "crypt$$abcdefghijk..".to_owned(),
            format!("$P$B{}", "a".repeat(30)),
            format!("$S$D{}", "a".repeat(51)),
            "SCRAM-SHA-256$4096:salt$stored:server".to_owned(),
            "!".to_owned(),
            "*".to_owned(),
            format!("!{}", "aB3".repeat(14).get(..40).unwrap()),
            "!$6$salt$hash".to_owned(),
            "!!$2b$12$x".to_owned(),
            format!("*{}", "2470C0C06D".repeat(4)),
        ] {
            assert_eq!(PasswordForm::of(&stored), PasswordForm::Unsupported, "{stored:?}");
        }
    }

    #[test]
    fn a_password_that_only_resembles_a_hash_is_plain_text() {
        for stored in [
            "",
            "password01",
            "$20",
            "$money$",
            "a$b$c",
            "pa$$word",
            "$P$short",
            "$S$ecret",
            "md5$ecret",
            "sha1$salt$nothex",
            "sha1$salt$0123456789abcdef",
            "md5",
            "scrypt",
            "pbkdf2",
            "{me}",
            "{braces",
            "!Passw0rd",
            "!!important!!",
            "*starred*",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8",
            "ときのそら$",
            " $2b$12$short",
            "'$argon2' is no hash",
            "b'$6$'",
            "Scrypt:Is:My:Password",
            " a password that is long and has $2b$ in it",
        ] {
            assert_eq!(PasswordForm::of(stored), PasswordForm::Plain, "{stored:?}");
        }
    }
}
