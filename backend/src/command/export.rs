//! `export`: every holodule, to standard output or a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client::Client;
use super::{Failure, complain};
use crate::import::Form;

/// The exit status where documents that cannot be read are missing in the export.
const SOME_UNREADABLE: u8 = 2;

pub(super) async fn run(client: &Client, form: Option<Form>, output: Option<&Path>) -> Result<ExitCode, Failure> {
    let by_name = || Form::of_extension(output?.extension()?.to_str()?);
    let path = match form.or_else(by_name).unwrap_or(Form::Ndjson) {
        Form::Csv => "/holodules?format=csv",
        Form::Ndjson => "/holodules?format=ndjson",
        Form::Json => "/holodules?format=json",
    };
    let response = client.open(Method::GET, path, "application/json", Bytes::new()).await?;
    let unreadable = response.headers().get("x-unreadable-documents").and_then(|count| count.to_str().ok());
    let unreadable: u64 = unreadable.and_then(|count| count.parse().ok()).unwrap_or_default();
    match output {
        None => copy(response, &mut std::io::stdout()).await?,
        Some(output) => {
            // Under another name until it is whole: half an export must not look like one.
            let mut draft = output.as_os_str().to_owned();
            draft.push(".part");
            let draft = PathBuf::from(draft);
            let written = match std::fs::File::create(&draft) {
                Ok(mut file) => copy(response, &mut file).await.and_then(|()| Ok(file.sync_all()?)),
                Err(error) => Err(error.into()),
            };
            let done = written.and_then(|()| Ok(std::fs::rename(&draft, output)?));
            if let Err(error) = done {
                // What remains of it is of no use; the error itself is told.
                let _ = std::fs::remove_file(&draft);
                return Err(format!("{}: {error}", output.display()).into());
            }
        }
    }
    if unreadable == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    complain(format_args!("{unreadable} documents cannot be read and are missing; the service's log names them"))?;
    Ok(ExitCode::from(SOME_UNREADABLE))
}

async fn copy(response: Response<Incoming>, out: &mut impl Write) -> Result<(), Failure> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the export broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data)?;
        }
    }
    Ok(out.flush()?)
}
