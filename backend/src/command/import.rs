//! `import FILE...`: reads files here, and uploads what can be stored in bounded batches.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::client::{Client, ClientError};
use super::rejects::Rejects;
use super::{CommandError, print};
use crate::import::{self, Batch, Dialect, Encoding, Form, ImportError, Reject, Row};
use crate::model::ValidHolodule;

/// Rows of one upload at most.
const BATCH_ROWS: usize = 500;
/// Bytes of one upload at most, but for a single row that is longer.
const BATCH_BYTES: usize = 1 << 20;
/// How long to wait before each further attempt where the service is too busy. Storing
/// a row twice changes nothing, so an upload may be sent again.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// The exit status where some rows were not stored.
const SOME_REJECTED: u8 = 2;

/// What the service tells of an upload.
#[derive(Debug, Default, Deserialize)]
struct ImportSummary {
    inserted: u64,
    updated: u64,
    unchanged: u64,
    rejected: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    row: u64,
    reason: String,
}

/// How files are read, as the command line says.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// The form; by default detected from the name, and for a pipe from the content.
    pub(super) form: Option<Form>,
    /// The encoding; detected by default.
    pub(super) encoding: Option<Encoding>,
    /// Whether unknown columns are passed over.
    pub(super) ignore_unknown: bool,
    /// Where the rejects of the one file go.
    pub(super) rejects: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, files: &[PathBuf], options: &Options) -> Result<ExitCode, CommandError> {
    if options.rejects.is_some() && files.len() > 1 {
        return Err("--rejects takes the rejects of one file: import the files one by one".into());
    }
    let mut rejected = 0;
    for file in files {
        rejected += one(client, file, options).await.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(if rejected == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REJECTED) })
}

/// Imports one file and gives back how many of its rows were not stored.
async fn one(client: &Client, file: &Path, options: &Options) -> Result<usize, CommandError> {
    let is_stdin = file == Path::new("-");
    if is_stdin && options.form.is_none() {
        return Err("name the form with --format".into());
    }
    let mut bytes = Vec::new();
    if is_stdin {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file)?;
    }
    let (text, encoding) = import::decode(&bytes, options.encoding)?;
    let by_name = || Form::of_extension(file.extension()?.to_str()?);
    let form = options.form.or_else(by_name);
    // The name of a pipe is a number.
    let is_pipe = is_stdin || !std::fs::metadata(file)?.is_file();
    let form = match form {
        Some(form) => form,
        None if is_pipe => import::detect_form(&text),
        None => return Err("the name does not tell the form; name it with --format".into()),
    };
    check_form(form, &text)?;
    let dialect = Dialect { ignore_unknown: options.ignore_unknown, ..import::detect_dialect(form, &text) };
    let source = ImportSource { form, dialect, text: &text };
    let mut batch = source.read()?;
    let rejects = Rejects::of(file, is_pipe, options.rejects.as_deref())?;
    // Before anything is uploaded: what cannot be stored is told even where that breaks off.
    rejects.before_upload(&batch)?;

    let name = if is_stdin { "standard input".into() } else { file.to_string_lossy() };
    if let Some(read_as) = source.described(encoding) {
        print(format_args!("{name}: {read_as}"))?;
    }
    let lines = batch.entries.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    let summary = match upload(client, &lines).await {
        Ok(summary) => summary,
        Err(error) => {
            rejects.after_upload(&batch, false)?;
            return Err(error);
        }
    };
    let refused = rows_of(&source, &batch.rejects, &summary.rejected)?;
    let any_refused = !refused.is_empty();
    batch.rejects.extend(refused);
    batch.rejects.sort_by_key(|reject| reject.row);
    rejects.after_upload(&batch, any_refused)?;
    let ImportSummary { inserted, updated, unchanged, .. } = summary;
    let (read, rejected) = (batch.entries.len() + batch.rejects.len() - summary.rejected.len(), batch.rejects.len());
    print(format_args!(
        "{name}: {read} read, {inserted} inserted, {updated} updated, {unchanged} unchanged, {rejected} rejected"
    ))?;
    if rejected > 0
        && let Some(place) = rejects.place()
    {
        print(format_args!("the rejected rows and the reasons are in {}", place.display()))?;
    }
    Ok(rejected)
}

/// The text of a file, and how it is read.
struct ImportSource<'a> {
    form: Form,
    dialect: Dialect,
    text: &'a [u8],
}

impl ImportSource<'_> {
    fn read(&self) -> Result<Batch, CommandError> {
        let mut batch = Batch::read_as(self.form, self.dialect, self.text).map_err(|error| match error {
            ImportError::UnknownColumns(_) => {
                CommandError::from(format!("{error}; --ignore-unknown passes over the others"))
            }
            error => error.into(),
        })?;
        batch.rejects.iter_mut().for_each(|reject| reject.complete(self.text));
        Ok(batch)
    }

    /// How the file was read, where it is not the collector's way.
    fn described(&self, encoding: Encoding) -> Option<String> {
        let mut parts = Vec::new();
        if encoding != Encoding::UTF_8 {
            parts.push(format!("encoded as {}", encoding.name()));
        }
        match self.dialect.separator {
            ';' => parts.push("separated by semicolons".to_owned()),
            '\t' => parts.push("separated by tabs".to_owned()),
            _ => {}
        }
        if self.dialect.line_end == b'\r' {
            parts.push("lines end with a carriage return".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Refuses a text that is plainly of another form than it is to be read as.
fn check_form(form: Form, text: &[u8]) -> Result<(), CommandError> {
    let looks = import::detect_form(text);
    let name = match (form, looks) {
        (Form::Csv | Form::Json, Form::Ndjson) => "ndjson",
        (Form::Csv | Form::Ndjson, Form::Json) => "json",
        _ => return Ok(()),
    };
    Err(format!("looks like {}: name it with --format {name}", name.to_uppercase()).into())
}

fn line(entry: &ValidHolodule) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(entry.holodule())?;
    line.push(b'\n');
    Ok(line)
}

/// Uploads all lines. The rows of what is rejected are counted over all of them, from 1.
async fn upload(client: &Client, lines: &[Vec<u8>]) -> Result<ImportSummary, CommandError> {
    // Drawn on standard error, and only where that is a terminal.
    let progress = ProgressBar::new(lines.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {eta} left")?);
    let mut total = ImportSummary::default();
    let mut done = 0;
    let mut most = BATCH_ROWS;
    while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
        let rows = fitting(rest, most);
        let body: Bytes = rest.iter().take(rows).flatten().copied().collect::<Vec<u8>>().into();
        match send(client, body).await {
            Ok(summary) => {
                total.inserted += summary.inserted;
                total.updated += summary.updated;
                total.unchanged += summary.unchanged;
                let refused = summary.rejected.into_iter();
                total.rejected.extend(refused.map(|refused| Refused { row: refused.row + done as u64, ..refused }));
                done += rows;
                progress.set_position(done as u64);
            }
            // The service takes less at once than is usual: its admin.body_limit.
            Err(ClientError::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, .. }) if rows > 1 => most = rows / 2,
            Err(error) => {
                progress.abandon();
                return Err(format!(
                    "{error}; {done} of {} rows were stored, and storing them again changes nothing",
                    lines.len()
                )
                .into());
            }
        }
    }
    progress.finish_and_clear();
    Ok(total)
}

/// How many of `lines` make one batch: at least one.
fn fitting(lines: &[Vec<u8>], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |line: &&Vec<u8>| {
        bytes += line.len();
        bytes <= BATCH_BYTES
    };
    lines.iter().take(most).take_while(fits).count().max(1)
}

async fn send(client: &Client, body: Bytes) -> Result<ImportSummary, ClientError> {
    let mut pauses = PAUSES.iter();
    loop {
        let sent = client.json(Method::POST, "/holodules", Form::Ndjson.media_type(), body.clone()).await;
        match (sent, pauses.next()) {
            (Err(ClientError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }), Some(pause)) => {
                tokio::time::sleep(*pause).await;
            }
            (sent, _) => return sent,
        }
    }
}

/// The rows of the file that a service of another version refused, though they pass here.
/// It counts only the rows that were sent to it.
fn rows_of(source: &ImportSource<'_>, rejects: &[Reject], refused: &[Refused]) -> Result<Vec<Reject>, CommandError> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let not_sent: HashSet<u64> = rejects.iter().map(|reject| reject.row).collect();
    let mut sent = 0;
    let mut found = Vec::new();
    for row in import::read_as(source.form, source.dialect, Cursor::new(source.text))? {
        let Row { number, raw, span, .. } = row?;
        if not_sent.contains(&number) {
            continue;
        }
        sent += 1;
        if let Some(refused) = refused.iter().find(|refused| refused.row == sent) {
            found.push(Reject { row: number, reason: refused.reason.clone(), raw, span });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_rows_and_bytes_and_never_empty() {
        let lines = |count, length| vec![vec![b'x'; length]; count];
        assert_eq!(fitting(&lines(700, 10), BATCH_ROWS), 500);
        assert_eq!(fitting(&lines(10, BATCH_BYTES / 4), BATCH_ROWS), 4);
        assert_eq!(fitting(&lines(2, BATCH_BYTES * 2), BATCH_ROWS), 1);
    }

    #[test]
    fn what_the_service_refused_is_found_among_the_rows_that_were_sent() {
        let row = |video: &str| format!("{{\"video_id\":\"{video}\",\"datetime\":\"20201209 230000\"}}\n");
        let file = ["\n", &row("aaaaaaaaaa1"), "nonsense\n", "\n", &row("aaaaaaaaaa2"), &row("aaaaaaaaaa3")].concat();
        let batch = Batch::read(Form::Ndjson, file.as_bytes()).unwrap();
        assert_eq!(batch.entries.len(), 3, "{batch:?}");
        let source = ImportSource { form: Form::Ndjson, dialect: Dialect::default(), text: file.as_bytes() };
        let refused = [Refused { row: 2, reason: "not today".to_owned() }];
        let found = rows_of(&source, &batch.rejects, &refused).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].row, found[0].reason.as_str()), (5, "not today"));
    }
}
