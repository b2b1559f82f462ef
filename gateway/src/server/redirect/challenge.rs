//! Files of ACME http-01 challenges.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// The maximum size of a challenge, in bytes. It is a token and the thumbprint of a key.
const MAX_BYTES: u64 = 4 * 1024;

/// Reads the challenge called `token` in `folder`. Tokens are base64url (RFC 8555), so they cannot contain a path.
/// Symbolic links, which could point outside the folder, and files that are not regular are ignored.
pub(super) fn read(folder: &Path, token: &str) -> Option<Vec<u8>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if token.is_empty() || token.len() > 128 || !token.bytes().all(is_token) {
        return None;
    }
    // Without NONBLOCK the opening of a FIFO waits for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(folder.join(token), flags, Mode::empty()).ok()?;
    let status = fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut challenge = Vec::new();
    File::from(file).take(MAX_BYTES + 1).read_to_end(&mut challenge).ok()?;
    // A truncated challenge would be wrong.
    (challenge.len() as u64 <= MAX_BYTES).then_some(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_files_by_their_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
        file("a-Token_1", b"a-Token_1.thumbprint");
        file("cert.pem", b"x");
        file("largest", &[b'x'; 4096]);
        file("larger", &[b'x'; 4097]);
        assert_eq!(read(folder.path(), "a-Token_1").as_deref(), Some(b"a-Token_1.thumbprint".as_slice()));
        assert_eq!(read(folder.path(), "largest").unwrap().len(), 4096);
        for token in ["", "missing", "../cert.pem", "cert.pem", "%2e%2e", "a/b", "larger"] {
            assert_eq!(read(folder.path(), token), None, "{token}");
        }
    }

    #[test]
    fn links_leave_the_folder_and_what_is_no_file_blocks_so_none_is_read() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| folder.path().join(name);
        std::fs::write(other.path().join("secret"), "hush").unwrap();
        std::fs::write(at("inside"), "seen").unwrap();
        std::os::unix::fs::symlink(other.path().join("secret"), at("link")).unwrap();
        std::os::unix::fs::symlink("inside", at("link-inside")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "link-inside", "folder", "fifo", "socket"] {
            assert!(at(name).symlink_metadata().is_ok());
            assert_eq!(read(folder.path(), name), None, "{name}");
        }
        // The folder itself may be reached through a link.
        std::os::unix::fs::symlink(folder.path(), other.path().join("acme")).unwrap();
        assert_eq!(read(&other.path().join("acme"), "inside").as_deref(), Some(b"seen".as_slice()));
    }
}
