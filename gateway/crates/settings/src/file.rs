//! Replacing a file as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by one with `content`, atomically: a reader sees the old file or
/// the whole new one. The content is synced before the rename, so a crash cannot leave an empty
/// file, and a draft that failed is removed.
///
/// # Errors
/// The folder does not exist or is not writable, or the disk is full.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    if written.is_err() {
        // The error is the caller's news; that the draft cannot be removed adds nothing to it.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// A name in the same folder, since only a rename within one file system is atomic. The process id
/// keeps two programs apart that write the same file.
fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses.json");
        for content in ["first, and longer than the second", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert!(replace(&folder.path().join("missing/addresses.json"), b"").is_err());
        let occupied = folder.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        assert!(replace(&occupied, b"").is_err());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
