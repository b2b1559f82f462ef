//! `streamers import|list`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use holodule_settings::{Output, shown_path};
use http::Method;
use serde::Deserialize;

use super::cli::StreamersCommand;
use super::client::Client;
use super::{CommandError, about, done};
use crate::import::{Encoding, Form, decode};
use crate::model::Streamer;

#[derive(Deserialize)]
struct StreamerListBody {
    streamers: Vec<Streamer>,
}

#[derive(Deserialize)]
struct SummaryBody {
    read: u64,
    inserted: u64,
    updated: u64,
    unchanged: u64,
}

pub(super) async fn run(client: &Client, command: StreamersCommand) -> Result<ExitCode, CommandError> {
    match command {
        StreamersCommand::Import { file } => {
            let summary = import(client, &file).await.map_err(|error| about(&file, error))?;
            let SummaryBody { read, inserted, updated, unchanged } = summary;
            done(format_args!(
                "{}: {read} read, {inserted} inserted, {updated} updated, {unchanged} unchanged",
                shown_path(&file)
            ))
        }
        StreamersCommand::List => {
            let listed = client.json(Method::GET, "/streamers", "application/json", Bytes::new()).await?;
            let StreamerListBody { streamers } = listed;
            let mut out = Output::standard();
            for Streamer { code, name, group, is_retired, .. } in streamers {
                // Documents of other programs may contain terminal control sequences.
                let shown = |text: Option<String>| text.unwrap_or_default().escape_debug().to_string();
                let retired = if is_retired == Some(true) { "retired" } else { "" };
                writeln!(out, "{}\t{}\t{}\t{retired}", code.escape_debug(), shown(name), shown(group))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn import(client: &Client, file: &Path) -> Result<SummaryBody, CommandError> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file)?;
    }
    let (text, _) = decode(&bytes, Some(Encoding::UTF_8))?;
    let body = Bytes::from(text.into_owned());
    Ok(client.json(Method::POST, "/streamers", Form::Csv.media_type(), body).await?)
}
