//! Telling others which addresses were bound: tests and scripts start on port 0.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

/// The bound addresses, as the announcement has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Announcement {
    /// Of the api listener: `host:port`, or `unix:/path`.
    pub api: String,
    /// Of the admin listener.
    pub admin: String,
}

impl Announcement {
    /// Writes it to `path` as JSON, whole or not at all: whoever waits for the file never sees half of it.
    ///
    /// # Errors
    /// A folder that is not there or not writable.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = Path::new(&draft);
        let written = std::fs::File::create(draft).and_then(|mut file| {
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            std::fs::rename(draft, path)
        });
        if written.is_err() {
            // What remains of a failed draft is of no use to anyone.
            let _ = std::fs::remove_file(draft);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_whole_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses.json");
        let announcement = Announcement { api: "127.0.0.1:1".to_owned(), admin: "unix:/a".to_owned() };
        announcement.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"api\":\"127.0.0.1:1\",\"admin\":\"unix:/a\"}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(announcement.write(&folder.path().join("missing/addresses.json")).is_err());
    }
}
