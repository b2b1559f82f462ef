//! `export`: downloads all holodules to standard output or a file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use holodule_settings::{Output, Replacement};
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client::Client;
use super::{CommandError, about, missing};
use crate::import::Form;

pub(super) async fn run(
    client: &Client,
    form: Option<Form>,
    output: Option<&Path>,
    spreadsheet: bool,
) -> Result<ExitCode, CommandError> {
    let by_name = || Form::of_extension(output?.extension()?.to_str()?);
    let path = match form.or_else(by_name).unwrap_or(Form::Ndjson) {
        Form::Csv if spreadsheet => "/holodules?format=csv&spreadsheet=true",
        Form::Csv => "/holodules?format=csv",
        _ if spreadsheet => return Err("--spreadsheet is for --format csv".into()),
        Form::Ndjson => "/holodules?format=ndjson",
        Form::Json => "/holodules?format=json",
    };
    // Before the request, so that an unwritable file is reported at once.
    let file = output.map(|output| Replacement::begin(output).map_err(|error| about(output, error.into())));
    let file = file.transpose()?;
    let response = client.open(Method::GET, path, "application/json", Bytes::new()).await?;
    let unreadable = response.headers().get("x-unreadable-documents").and_then(|count| count.to_str().ok());
    let unreadable: u64 = unreadable.and_then(|count| count.parse().ok()).unwrap_or_default();
    match (file, output) {
        (Some(mut file), Some(output)) => {
            // The file gets its name when it is complete: a partial export must not look like a complete one.
            let written = copy(response, &mut Output::to(&mut file)).await.and_then(|()| Ok(file.commit()?));
            written.map_err(|error| about(output, error))?;
        }
        _ => copy(response, &mut Output::standard()).await?,
    }
    Ok(missing(unreadable, "document", "that could not be read; the server's log has the reasons"))
}

async fn copy(response: Response<Incoming>, out: &mut impl Write) -> Result<(), CommandError> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the export is incomplete: {error}"))?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data)?;
        }
    }
    Ok(out.flush()?)
}
