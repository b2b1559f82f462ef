//! Secrets, and files with secrets.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::bounded::read_bounded;
use crate::echo::shown_path;

/// The maximum size of a file with a secret, in bytes.
const SECRET_FILE_LIMIT: u64 = 64 * 1024;

/// A secret: it can be used, but not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A warning if others can access the file at `path`, which holds a secret.
pub fn exposed(path: &Path) -> Option<String> {
    exposure(path).map(|exposure| format!("{} holds a secret and {exposure}", shown_path(path)))
}

/// Which access the mode of the file gives to others. Its group may read it, since a service gets a secret that way
/// which it cannot change.
fn exposure(path: &Path) -> Option<&'static str> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o004 != 0 {
        Some("can be read by every user of this machine")
    } else if mode & 0o022 != 0 {
        Some("can be changed by others than its owner")
    } else {
        None
    }
}

/// Reads a secret from the file at `path`.
///
/// # Errors
/// The reason, without any part of the content.
pub fn read_secret_file(path: &Path) -> Result<Secret, String> {
    let bytes = read_bounded(path, SECRET_FILE_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8")?;
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // Editors and `echo` append a newline that is not part of the secret.
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_that_others_can_read_or_change_is_warned_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = |mode: u32| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            exposure(file.path())
        };
        for mode in [0o400, 0o600, 0o640, 0o440] {
            assert_eq!(found(mode), None, "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o666, 0o444] {
            assert_eq!(found(mode), Some("can be read by every user of this machine"), "{mode:o}");
        }
        for mode in [0o660, 0o620, 0o602] {
            assert_eq!(found(mode), Some("can be changed by others than its owner"), "{mode:o}");
        }
    }

    #[test]
    fn a_trailing_newline_and_a_byte_order_mark_are_removed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, secret) in [
            ("hush", "hush"),
            ("hush\n", "hush"),
            ("hush\r\n", "hush"),
            (" hush\n\n", " hush\n"),
            ("\u{feff}hush\n", "hush"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(read_secret_file(file.path()).unwrap().expose(), secret, "{text:?}");
        }
        std::fs::write(file.path(), b"hush\xff").unwrap();
        assert_eq!(read_secret_file(file.path()).unwrap_err(), "the file is not UTF-8");
        std::fs::write(file.path(), vec![b'a'; 64 * 1024 + 1]).unwrap();
        assert_eq!(read_secret_file(file.path()).unwrap_err(), "the file has 65537 bytes, over 65536");
        // It is endless and reports a length of 0.
        assert_eq!(read_secret_file(Path::new("/dev/zero")).unwrap_err(), "the file has more than 65536 bytes");
    }
}
