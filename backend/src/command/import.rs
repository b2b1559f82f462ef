//! `import FILE...`: parses files locally, and uploads the valid rows in bounded batches.

use std::collections::HashSet;
use std::io::{Cursor, Read, Stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use holodule_settings::{Results, shown_path};
use http::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::client::{Client, ClientError};
use super::rejects::Rejects;
use super::{CommandError, about};
use crate::import::{self, Batch, Dialect, Encoding, Form, ImportError, Reject, Row};
use crate::model::ValidHolodule;

/// The maximum number of rows in one upload.
const BATCH_ROWS: usize = 500;
/// The maximum number of bytes in one upload, except for a single longer row.
const BATCH_BYTES: usize = 1 << 20;
/// The pauses before retries when the server is busy. Uploads are idempotent.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// The exit status if some rows were rejected.
const SOME_REJECTED: u8 = 2;

/// The response to an upload.
#[derive(Debug, Default, Deserialize)]
struct ImportSummary {
    inserted: u64,
    updated: u64,
    unchanged: u64,
    rejected: Vec<RefusedRow>,
}

#[derive(Debug, Deserialize)]
struct RefusedRow {
    row: u64,
    reason: String,
}

/// How files are parsed, from the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct ImportOptions {
    /// The format; detected from the name, or for a pipe from the content, by default.
    pub(super) form: Option<Form>,
    /// The encoding; detected by default.
    pub(super) encoding: Option<Encoding>,
    /// Whether unknown columns are ignored.
    pub(super) ignore_unknown: bool,
    /// The file for the rejects.
    pub(super) rejects: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, files: &[PathBuf], options: &ImportOptions) -> Result<ExitCode, CommandError> {
    if options.rejects.is_some() && files.len() > 1 {
        return Err("--rejects can be used with one file only: import the files separately".into());
    }
    let mut results = Results::standard();
    let mut rejected = 0;
    for file in files {
        rejected += one(client, file, options, &mut results).await.map_err(|error| about(file, error))?;
    }
    Ok(results.finish(if rejected == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REJECTED) })?)
}

/// Imports one file and returns the number of rejected rows.
async fn one(
    client: &Client,
    file: &Path,
    options: &ImportOptions,
    results: &mut Results<Stdout>,
) -> Result<usize, CommandError> {
    let is_stdin = file == Path::new("-");
    if is_stdin && options.form.is_none() {
        return Err("--format is required for standard input".into());
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
    // The name of a pipe has no extension.
    let is_pipe = is_stdin || !std::fs::metadata(file)?.is_file();
    let form = match form {
        Some(form) => form,
        None if is_pipe => import::detect_form(&text),
        None => return Err("the format is not clear from the file name; set it with --format".into()),
    };
    check_form(form, &text)?;
    let dialect = Dialect { ignore_unknown: options.ignore_unknown, ..import::detect_dialect(form, &text) };
    let source = ImportSource { form, dialect, text: &text };
    let mut batch = source.read()?;
    let rejects = Rejects::of(file, is_pipe, options.rejects.as_deref())?;
    // Before the upload, so that rejects are reported even if the upload fails.
    rejects.before_upload(&batch)?;

    let name = if is_stdin { "standard input".to_owned() } else { shown_path(file) };
    if let Some(read_as) = source.described(encoding) {
        results.print(format_args!("{name}: {read_as}"));
    }
    let lines = batch.entries.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    let summary = match upload(client, &lines).await {
        Ok(summary) => summary,
        Err(error) => {
            let written = rejects.after_upload(&batch, false);
            return Err(match written {
                Ok(()) => error,
                Err(also) => format!("{error}; {also}").into(),
            });
        }
    };
    let refused = rows_of(&source, &batch.rejects, &summary.rejected)?;
    let any_refused = !refused.is_empty();
    batch.rejects.extend(refused);
    batch.rejects.sort_by_key(|reject| reject.row);
    rejects.after_upload(&batch, any_refused)?;
    let ImportSummary { inserted, updated, unchanged, .. } = summary;
    let (read, rejected) = (batch.entries.len() + batch.rejects.len() - summary.rejected.len(), batch.rejects.len());
    results.print(format_args!(
        "{name}: {read} read, {inserted} inserted, {updated} updated, {unchanged} unchanged, {rejected} rejected"
    ));
    if rejected > 0
        && let Some(place) = rejects.place()
    {
        results.print(format_args!("the rejected rows with their reasons are in {}", shown_path(place)));
    }
    Ok(rejected)
}

/// The text of a file, and how it is parsed.
struct ImportSource<'a> {
    form: Form,
    dialect: Dialect,
    text: &'a [u8],
}

impl ImportSource<'_> {
    fn read(&self) -> Result<Batch, CommandError> {
        let mut batch = Batch::read_as(self.form, self.dialect, self.text).map_err(|error| match error {
            ImportError::UnknownColumns(_) => {
                CommandError::from(format!("{error}; --ignore-unknown ignores the others"))
            }
            error => error.into(),
        })?;
        batch.rejects.iter_mut().for_each(|reject| reject.complete(self.text));
        Ok(batch)
    }

    /// A description of the dialect, if it differs from the collector's.
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

/// Returns an error if the text is obviously in another format.
fn check_form(form: Form, text: &[u8]) -> Result<(), CommandError> {
    let looks = import::detect_form(text);
    let name = match (form, looks) {
        (Form::Csv | Form::Json, Form::Ndjson) => "ndjson",
        (Form::Csv | Form::Ndjson, Form::Json) => "json",
        _ => return Ok(()),
    };
    Err(format!("looks like {}: use --format {name}", name.to_uppercase()).into())
}

fn line(entry: &ValidHolodule) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(entry.holodule())?;
    line.push(b'\n');
    Ok(line)
}

/// Uploads all lines. The numbers of rejected rows count from the first line.
async fn upload(client: &Client, lines: &[Vec<u8>]) -> Result<ImportSummary, CommandError> {
    // Shown on standard error if it is a terminal.
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
                total.rejected.extend(refused.map(|refused| RefusedRow { row: refused.row + done as u64, ..refused }));
                done += rows;
                progress.set_position(done as u64);
            }
            // The server's admin.body_limit is smaller than the default.
            Err(ClientError::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, .. }) if rows > 1 => most = rows / 2,
            Err(error) => {
                progress.abandon();
                return Err(format!(
                    "{error}; {done} of {} rows were stored; storing them again changes nothing",
                    lines.len()
                )
                .into());
            }
        }
    }
    progress.finish_and_clear();
    Ok(total)
}

/// The number of `lines` in the next batch, at least one.
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

/// The rows of the file that the server rejected, for example because its version differs. It numbers only the rows
/// that were sent.
fn rows_of(source: &ImportSource<'_>, rejects: &[Reject], refused: &[RefusedRow]) -> Result<Vec<Reject>, CommandError> {
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
    fn rows_rejected_by_the_server_are_found_in_the_file() {
        let row = |video: &str| format!("{{\"video_id\":\"{video}\",\"datetime\":\"20201209 230000\"}}\n");
        let file = ["\n", &row("aaaaaaaaaa1"), "nonsense\n", "\n", &row("aaaaaaaaaa2"), &row("aaaaaaaaaa3")].concat();
        let batch = Batch::read(Form::Ndjson, file.as_bytes()).unwrap();
        assert_eq!(batch.entries.len(), 3, "{batch:?}");
        let source = ImportSource { form: Form::Ndjson, dialect: Dialect::default(), text: file.as_bytes() };
        let refused = [RefusedRow { row: 2, reason: "not today".to_owned() }];
        let found = rows_of(&source, &batch.rejects, &refused).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].row, found[0].reason.as_str()), (5, "not today"));
    }
}
