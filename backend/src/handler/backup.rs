//! Backup and restore, with files in the configured folder: no response contains a stored password.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _};
use std::sync::Arc;

use holodule_telemetry::{active, within};
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{App, BUSY_RETRY, HandlerResult, body};
use crate::backup::{BackupFolder, BackupName, BackupReader, BackupWriter, OpenError, Replacement, Trailer, verify};
use crate::clock::now;
use crate::model::Saved;
use crate::respond::{self, HttpError};
use crate::store::Restored;

/// The maximum request body, in bytes.
const BODY_LIMIT: usize = 4096;
/// Records buffered between the file and the store.
const QUEUE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreRequest {
    file: String,
    #[serde(default)]
    replace: bool,
}

/// The response: the content of a backup.
#[derive(Serialize)]
struct BackupSummary {
    file: String,
    users: u64,
    holodules: u64,
    logouts: u64,
    streamers: u64,
    calendars: u64,
    /// Whether all records were read from one snapshot.
    consistent: bool,
    /// Documents that could not be read.
    unreadable: u64,
    /// Holodules that were not restored because another has their `video_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
}

impl BackupSummary {
    fn new(file: &BackupName, end: &Trailer, duplicates: Option<u64>) -> Self {
        let Trailer { users, holodules, logouts, streamers, calendars, consistent, unreadable, .. } = *end;
        let file = file.as_str().to_owned();
        Self { file, users, holodules, logouts, streamers, calendars, consistent, unreadable, duplicates }
    }
}

/// `200` when the backup is on disk; `409` if a file of this name exists.
pub(crate) async fn back_up(app: &Arc<App>, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly file, a string";
    let folder = folder(app)?;
    let BackupRequest { file } =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let name = BackupName::parse(&file).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let app = Arc::clone(app);
    // Spawned to complete even if the client disconnects: the permit must be held until the work ends.
    let writing = tokio::spawn(within(active(), async move { back_up_to(&app, &folder, &name).await }));
    writing.await.map_err(|_| failed("the backup could not be written"))?
}

async fn back_up_to(app: &App, folder: &BackupFolder, name: &BackupName) -> HandlerResult {
    let Ok(_turn) = app.backups.try_acquire() else { return Err(busy()) };
    let (records, received) = mpsc::channel(QUEUE);
    let created = create(folder, name, received).await?;
    let reading = app.store.backup(records).await;
    // The channel closes when the read ends, whatever its result.
    let writer = created.await.map_err(|_| failed("the backup could not be written"))?;
    // First the writer: if it fails, it closes the channel, and the read fails because of that.
    let writer = writer.map_err(|error| not_written(folder, &error))?;
    let read = reading.map_err(|error| app.store_failed(&error))?;
    let finished = tokio::task::spawn_blocking(move || {
        let (out, end) = writer.finish(read.consistent, read.unreadable)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.commit()?;
        Ok(end)
    });
    let end = finished.await.map_err(|_| failed("the backup could not be written"))?;
    let end = end.map_err(|error: std::io::Error| not_written(folder, &error))?;
    tracing::info!(
        file = name.as_str(),
        users = end.users,
        holodules = end.holodules,
        logouts = end.logouts,
        streamers = end.streamers,
        calendars = end.calendars,
        "backup written"
    );
    Ok(respond::json(StatusCode::OK, &BackupSummary::new(name, &end, None)))
}

type UnfinishedBackup = BackupWriter<BufWriter<Replacement>>;

/// Creates the file and starts to write the received records to it.
async fn create(
    folder: &BackupFolder,
    name: &BackupName,
    mut records: mpsc::Receiver<Saved>,
) -> Result<tokio::task::JoinHandle<std::io::Result<UnfinishedBackup>>, HttpError> {
    let (at, called) = (folder.clone(), name.clone());
    let file = tokio::task::spawn_blocking(move || at.create(&called)).await;
    let file = match file.map_err(|_| failed("the backup could not be written"))? {
        Ok(file) => file,
        Err(OpenError::Io(error)) => return Err(not_written(folder, &error)),
        Err(error) => return Err(HttpError::new(StatusCode::CONFLICT, error.to_string())),
    };
    Ok(tokio::task::spawn_blocking(move || {
        let mut writer = BackupWriter::new(BufWriter::new(file), now());
        while let Some(record) = records.blocking_recv() {
            writer.record(record)?;
        }
        Ok(writer)
    }))
}

/// `200` when everything is stored; `400` if the file is not a complete backup, `409` if the store is not empty and
/// `replace` is not set. Then nothing is changed.
pub(crate) async fn restore(app: &Arc<App>, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of file, a string, and perhaps replace, true or false";
    let folder = folder(app)?;
    let RestoreRequest { file, replace } =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let name = BackupName::parse(&file).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let app = Arc::clone(app);
    // Spawned to complete even if the client disconnects.
    let restoring = tokio::spawn(within(active(), async move { restore_from(&app, &folder, &name, replace).await }));
    restoring.await.map_err(|_| failed("the restore could not be finished"))?
}

async fn restore_from(app: &App, folder: &BackupFolder, name: &BackupName, replace: bool) -> HandlerResult {
    let Ok(_turn) = app.backups.try_acquire() else { return Err(busy()) };
    let (at, called) = (folder.clone(), name.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let mut file = at.open(&called).map_err(|error| match error {
            OpenError::Missing => HttpError::not_found(error.to_string()),
            error => HttpError::bad_request(format!("the backup {error}")),
        })?;
        let checked = verify(BufReader::new(&file)).and_then(|end| {
            file.rewind()?;
            Ok(end)
        });
        checked.map(|end| (file, end)).map_err(|error| HttpError::bad_request(format!("the backup {error}")))
    });
    let (file, end) = opened.await.map_err(|_| failed("the backup could not be read"))??;
    let (records, received) = mpsc::channel(QUEUE);
    let reading = tokio::task::spawn_blocking(move || send(file, &records));
    let restored = app.store.restore(received, replace, now()).await;
    // The reader ends with its receiver.
    let _ = reading.await;
    // Whatever the result: tokens issued before are no longer valid.
    app.feed.reset();
    match restored {
        Ok(Restored::Done { duplicates }) => {
            let Trailer { users, holodules, logouts, streamers, calendars, .. } = end;
            tracing::info!(
                file = name.as_str(),
                users,
                holodules,
                logouts,
                streamers,
                calendars,
                duplicates,
                "backup restored"
            );
            Ok(respond::json(StatusCode::OK, &BackupSummary::new(name, &end, Some(duplicates))))
        }
        Ok(Restored::NotEmpty) => Err(HttpError::new(
            StatusCode::CONFLICT,
            "the store is not empty and nothing was changed; set replace to restore",
        )),
        Err(error) => {
            let error = app.store_failed(&error);
            Err(HttpError::new(error.status, "the restore failed: see the log and repeat it with replace"))
        }
    }
}

fn send(file: File, records: &mpsc::Sender<Result<Saved, String>>) {
    let read = match BackupReader::new(BufReader::new(file)) {
        Ok(read) => read,
        Err(error) => return drop(records.blocking_send(Err(error.to_string()))),
    };
    for record in read {
        // The receiver is dropped when the restore has ended.
        if records.blocking_send(record.map_err(|error| error.to_string())).is_err() {
            return;
        }
    }
}

fn folder(app: &App) -> Result<BackupFolder, HttpError> {
    let off = || HttpError::not_found("backups are disabled: backup.folder is not set");
    app.settings.backup_folder.clone().map(BackupFolder::new).ok_or_else(off)
}

fn busy() -> HttpError {
    HttpError::unavailable("another backup or restore is in progress", BUSY_RETRY)
}

fn failed(description: &'static str) -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, description)
}

fn not_written(folder: &BackupFolder, error: &std::io::Error) -> HttpError {
    tracing::error!(folder = %folder.path().display(), %error, "backup could not be written");
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the backup could not be written: {error}"))
}
