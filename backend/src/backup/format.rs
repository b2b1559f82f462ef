//! The file format: one JSON object per line. The first line has the version, the last one the number of records and a
//! checksum of all lines before it.
//!
//! Version 2 adds streamers and calendar feeds, version 3 the events that the feeds have delivered. A backup with feeds
//! is written as version 3, one with streamers only as version 2, and one with neither as version 1: so older programs
//! can restore what they know.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read as _, Write};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::hex;
use crate::model::{
    Calendar, Delivered, DeliveredEvent, Holodule, Logout, Roles, Saved, SavedUser, StoredPassword, Streamer, Tally,
    TokenId,
};

/// The version of a backup without records.
const BASE_VERSION: u32 = 1;
/// The latest version.
const VERSION: u32 = 3;
/// The longest line, in bytes. A MongoDB document has at most 16 MiB; JSON escapes make it longer.
const LINE_LIMIT: u64 = 128 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    holodule_backup: u32,
    created_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RecordLine {
    Logout { identity: String, token: String, expires_at: i64 },
    Holodule(Box<Holodule>),
    User(UserRecord),
    Streamer(Box<Streamer>),
    Calendar(Box<Calendar>),
    Delivered { calendar: String, events: BTreeMap<String, DeliveredEvent> },
    End(Trailer),
}

/// Without `Debug`, because it holds a password.
#[derive(Serialize, Deserialize)]
struct UserRecord {
    username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    password: String,
    #[serde(default)]
    disabled: bool,
    /// Missing without roles and in backups of older versions.
    #[serde(default, skip_serializing_if = "Roles::is_empty")]
    roles: Roles,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_changed_at: Option<i64>,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Number of users.
    pub users: u64,
    /// Number of holodules.
    pub holodules: u64,
    /// Number of logouts.
    pub logouts: u64,
    /// Number of streamers. Missing in backups of older versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub streamers: u64,
    /// Number of calendar feeds. Missing in backups of older versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calendars: u64,
    /// Number of calendar feeds that have delivered events. Missing in backups of older versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delivered: u64,
    /// Whether all records were read from one snapshot.
    pub consistent: bool,
    /// Number of documents that could not be read and were left out.
    pub unreadable: u64,
    /// The digest of all lines before this one, in lower-case hexadecimal digits.
    sha256: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a file is not a complete backup. The text is safe to show: it contains nothing from the file.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// An I/O error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The first line is not that of a backup.
    #[error("is not a backup of this program")]
    NoBackup,
    /// A later version of the program wrote it.
    #[error("is of version {0} of the format; this program reads up to {VERSION}")]
    Version(u32),
    /// The last line is missing.
    #[error("is cut short: its last line is missing")]
    CutShort,
    /// The content differs from what was written.
    #[error("is damaged: its checksum or its counts do not match")]
    Checksum,
    /// A line cannot be parsed.
    #[error("line {0} cannot be read")]
    Line(u64),
    /// The id of a calendar feed is that of an earlier one.
    #[error("line {0} has a calendar feed with the id of an earlier one")]
    RepeatedCalendar(u64),
    /// Delivered events without their feed before them, or with those of the same feed before them.
    #[error("line {0} has delivered events of an unknown calendar feed, or of one that already has some")]
    DeliveredOfNone(u64),
    /// Delivered events that no feed can deliver.
    #[error("line {0} has delivered events with an invalid UID or sequence")]
    DeliveredInvalid(u64),
}

/// Writes a backup.
pub struct BackupWriter<W> {
    out: W,
    created_at: i64,
    /// `None` until the first line is written.
    version: Option<u32>,
    digest: Context,
    tally: Tally,
}

impl<W: Write> BackupWriter<W> {
    /// `created_at` is in seconds since the Unix epoch.
    pub fn new(out: W, created_at: i64) -> Self {
        Self { out, created_at, version: None, digest: Context::new(&SHA256), tally: Tally::default() }
    }

    /// Writes one record, and the first line before the first record, which determines the version.
    ///
    /// # Errors
    /// Those of the writer; [`io::ErrorKind::InvalidInput`] for a record of a later version than the first.
    pub fn record(&mut self, saved: Saved) -> io::Result<()> {
        let needed = saved.version();
        if self.begin(needed)? < needed {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a record of a later version is not among the first",
            ));
        }
        self.tally.count(&saved);
        self.line(&match saved {
            Saved::Logout(Logout { identity, token, expires_at }) => {
                RecordLine::Logout { identity, token: token.as_str().to_owned(), expires_at }
            }
            Saved::Holodule(holodule) => RecordLine::Holodule(holodule),
            Saved::User(user) => RecordLine::User(UserRecord {
                username: user.username,
                id: user.id,
                password: user.password.expose().to_owned(),
                disabled: user.disabled,
                roles: user.roles,
                created_at: user.created_at,
                password_changed_at: user.password_changed_at,
            }),
            Saved::Streamer(streamer) => RecordLine::Streamer(streamer),
            Saved::Calendar(calendar) => RecordLine::Calendar(calendar),
            Saved::Delivered(calendar, delivered) => RecordLine::Delivered { calendar, events: delivered.events },
        })
    }

    /// Writes the last line and returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, consistent: bool, unreadable: u64) -> io::Result<(W, Trailer)> {
        self.begin(BASE_VERSION)?;
        let Tally { users, holodules, logouts, streamers, calendars, delivered } = self.tally;
        let sha256 = hex::encode(self.digest.clone().finish().as_ref());
        let end =
            Trailer { users, holodules, logouts, streamers, calendars, delivered, consistent, unreadable, sha256 };
        self.line(&RecordLine::End(end.clone()))?;
        self.out.flush()?;
        Ok((self.out, end))
    }

    /// Writes the first line unless it is written. Returns its version.
    fn begin(&mut self, version: u32) -> io::Result<u32> {
        if let Some(written) = self.version {
            return Ok(written);
        }
        self.line(&Header { holodule_backup: version, created_at: self.created_at })?;
        Ok(*self.version.insert(version))
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        self.out.write_all(&text)
    }
}

/// Iterates over the records of a backup. The iterator ends after the first error.
pub struct BackupReader<R> {
    reader: R,
    digest: Context,
    tally: Tally,
    /// The ids of the calendar feeds, and whether their delivered events were read.
    calendars: HashMap<String, bool>,
    line: u64,
    end: Option<Trailer>,
    failed: bool,
}

/// Reads a complete backup and returns its last line if counts and checksum match.
///
/// # Errors
/// [`Damaged`].
pub fn verify(reader: impl BufRead) -> Result<Trailer, Damaged> {
    let mut records = BackupReader::new(reader)?;
    for record in &mut records {
        record?;
    }
    records.end.ok_or(Damaged::CutShort)
}

impl<R: BufRead> BackupReader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn new(reader: R) -> Result<Self, Damaged> {
        let mut records = Self {
            reader,
            digest: Context::new(&SHA256),
            tally: Tally::default(),
            calendars: HashMap::new(),
            line: 0,
            end: None,
            failed: false,
        };
        let line = records.next_line()?;
        let Header { holodule_backup: version, .. } = serde_json::from_slice(&line).map_err(|_| Damaged::NoBackup)?;
        if version == 0 || version > VERSION {
            return Err(Damaged::Version(version));
        }
        records.digest.update(&line);
        Ok(records)
    }

    /// The next line including its line feed; without one, the file is truncated.
    fn next_line(&mut self) -> Result<Vec<u8>, Damaged> {
        let mut line = Vec::new();
        self.reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
        self.line += 1;
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if self.line == 1 => Err(Damaged::NoBackup),
            _ => Err(Damaged::CutShort),
        }
    }

    fn next_record(&mut self) -> Result<Option<Saved>, Damaged> {
        let bytes = self.next_line()?;
        let line = serde_json::from_slice(&bytes).map_err(|_| Damaged::Line(self.line))?;
        let saved = match line {
            RecordLine::End(end) => {
                let sha256 = hex::encode(self.digest.clone().finish().as_ref());
                let Trailer { users, holodules, logouts, streamers, calendars, delivered, .. } = end;
                let counted = Tally { users, holodules, logouts, streamers, calendars, delivered };
                let rest = self.reader.fill_buf()?;
                if end.sha256 != sha256 || counted != self.tally || !rest.is_empty() {
                    return Err(Damaged::Checksum);
                }
                self.end = Some(end);
                return Ok(None);
            }
            RecordLine::Logout { identity, token, expires_at } => {
                let token = TokenId::parse(&token).map_err(|_| Damaged::Line(self.line))?;
                Saved::Logout(Logout { identity, token, expires_at })
            }
            RecordLine::Holodule(holodule) => Saved::Holodule(holodule),
            RecordLine::User(user) => Saved::User(SavedUser {
                username: user.username,
                id: user.id,
                password: StoredPassword::new(user.password),
                disabled: user.disabled,
                roles: user.roles,
                created_at: user.created_at,
                password_changed_at: user.password_changed_at,
            }),
            RecordLine::Streamer(streamer) => Saved::Streamer(streamer),
            RecordLine::Calendar(calendar) => {
                if self.calendars.insert(calendar.id.clone(), false).is_some() {
                    return Err(Damaged::RepeatedCalendar(self.line));
                }
                Saved::Calendar(calendar)
            }
            RecordLine::Delivered { calendar, events } => {
                if self.calendars.insert(calendar.clone(), true) != Some(false) {
                    return Err(Damaged::DeliveredOfNone(self.line));
                }
                let delivered = Some(Delivered { events }).filter(Delivered::is_valid);
                Saved::Delivered(calendar, Box::new(delivered.ok_or(Damaged::DeliveredInvalid(self.line))?))
            }
        };
        self.digest.update(&bytes);
        self.tally.count(&saved);
        Ok(Some(saved))
    }
}

impl<R: BufRead> Iterator for BackupReader<R> {
    type Item = Result<Saved, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.end.is_some() {
            return None;
        }
        let record = self.next_record().transpose();
        self.failed = matches!(record, Some(Err(_)));
        record
    }
}

#[cfg(test)]
mod tests;
