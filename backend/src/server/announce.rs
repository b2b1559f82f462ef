//! Announces the bound addresses, for tests and scripts that start on port 0.

use std::path::Path;

use serde::Serialize;

/// The bound addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Announcement {
    /// The api listener: `host:port` or `unix:/path`.
    pub api: String,
    /// The admin listener.
    pub admin: String,
    /// The id of the process that serves, which an upgrade in place changes.
    pub process: u32,
}

impl Announcement {
    /// Writes the addresses to `path` as JSON, atomically.
    ///
    /// # Errors
    /// As [`holodule_settings::replace`].
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        holodule_settings::replace(path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_atomically_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses.json");
        let announcement = Announcement { api: "127.0.0.1:1".to_owned(), admin: "unix:/a".to_owned(), process: 7 };
        announcement.write(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"api\":\"127.0.0.1:1\",\"admin\":\"unix:/a\",\"process\":7}\n"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(announcement.write(&folder.path().join("missing/addresses.json")).is_err());
    }
}
