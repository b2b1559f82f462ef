//! `backup` and `restore`: the server writes and reads the file, in its configured folder.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use holodule_settings::{Results, counted};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::client::Client;
use super::{CommandError, missing};

/// The response of the server.
#[derive(Debug, Deserialize)]
struct BackupReport {
    file: String,
    users: u64,
    holodules: u64,
    logouts: u64,
    #[serde(default)]
    streamers: u64,
    #[serde(default)]
    calendars: u64,
    consistent: bool,
    unreadable: u64,
    #[serde(default)]
    duplicates: u64,
}

impl std::fmt::Display for BackupReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [users, holodules] = [counted(self.users, "user"), counted(self.holodules, "holodule")];
        write!(f, "{users}, {holodules}, {}", counted(self.logouts, "logout"))?;
        if self.streamers > 0 {
            write!(f, ", {}", counted(self.streamers, "streamer"))?;
        }
        if self.calendars > 0 {
            write!(f, ", {}", counted(self.calendars, "calendar feed"))?;
        }
        Ok(())
    }
}

pub(super) async fn back_up(client: &Client, file: Option<String>) -> Result<ExitCode, CommandError> {
    let file = match file {
        Some(file) => file,
        None => dated()?,
    };
    let body = json!({ "file": file }).to_string();
    let summary: BackupReport = client.json(Method::POST, "/backup", "application/json", body.into()).await?;
    let mut results = Results::standard();
    results.print(format_args!("{}: {summary}", summary.file));
    if !summary.consistent {
        results.print("the store is not a replica set: changes made meanwhile may be included in part");
    }
    let why = "that could not be read; the server's log has the reasons";
    Ok(results.finish(missing(summary.unreadable, "document", why))?)
}

pub(super) async fn restore(client: &Client, file: String, replace: bool) -> Result<ExitCode, CommandError> {
    let body = json!({ "file": file, "replace": replace }).to_string();
    let summary: BackupReport = client.json(Method::POST, "/restore", "application/json", body.into()).await?;
    let mut results = Results::standard();
    results.print(format_args!("{}: {summary}", summary.file));
    results.print("all tokens issued before are revoked: users must log in again");
    Ok(results.finish(missing(summary.duplicates, "holodule", "with the video_id of another one"))?)
}

/// A name from the current time in UTC.
fn dated() -> Result<String, CommandError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds)?)?;
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = now.time().as_hms();
    Ok(format!("holodule-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z.backup"))
}
