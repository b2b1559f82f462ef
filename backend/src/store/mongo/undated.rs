//! Holodules that are not listed under any day: their `datetime` is not text that begins with `yyyymmdd` and a space,
//! but a date, a number, other text, or missing. Queries for a day do not find them.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, RawBsonRef, RawDocumentBuf, doc};

use super::{StoreError, any_member, document, error};
use crate::store::Undated;

/// The maximum number of named documents, in the log since the start and in a list.
pub(super) const NAMED: usize = 1000;
/// Timeout for counting.
const LIMIT: Duration = Duration::from_secs(600);

/// The `_id`s that have been logged.
#[derive(Debug, Default)]
pub(super) struct Logged(HashSet<Vec<u8>>);

/// Counts them and logs each once, up to [`NAMED`].
pub(super) async fn count(
    server: &str,
    holodules: &Collection<RawDocumentBuf>,
    logged: &mut Logged,
) -> Result<u64, StoreError> {
    let found = find(server, holodules).await?;
    for document in &found.documents {
        let Some(id) = document::id_bytes(document) else { continue };
        if logged.0.len() < NAMED && logged.0.insert(id) {
            let Undated { id, datetime } = undated(document);
            tracing::warn!(
                id,
                datetime,
                "a holodule is not listed under any day: its datetime is not \"yyyymmdd hhmmss\""
            );
        }
    }
    Ok(found.count)
}

/// Their number, and the first [`NAMED`] of them by `_id`.
pub(super) async fn list(
    server: &str,
    holodules: &Collection<RawDocumentBuf>,
) -> Result<(u64, Vec<Undated>), StoreError> {
    let found = find(server, holodules).await?;
    Ok((found.count, found.documents.iter().map(undated).collect()))
}

struct UndatedScan {
    count: u64,
    documents: Vec<RawDocumentBuf>,
}

async fn find(server: &str, holodules: &Collection<RawDocumentBuf>) -> Result<UndatedScan, StoreError> {
    let found = async {
        let count = holodules.count_documents(filter()).selection_criteria(any_member()).await?;
        if count == 0 {
            return Ok(UndatedScan { count, documents: Vec::new() });
        }
        let limit = i64::try_from(NAMED).unwrap_or(i64::MAX);
        let find = holodules.find(filter()).projection(doc! { "datetime": 1 }).sort(doc! { "_id": 1 }).limit(limit);
        let documents = find.selection_criteria(any_member()).await?.try_collect().await?;
        Ok(UndatedScan { count, documents })
    };
    match tokio::time::timeout(LIMIT, found).await {
        Ok(found) => found.map_err(|error| error::store_error(server, &error)),
        Err(_) => Err(StoreError::Unavailable("counting holodules without a day timed out".to_owned())),
    }
}

fn filter() -> Document {
    doc! { "$nor": [{ "datetime": { "$type": "string", "$regex": "^[0-9]{8} " } }] }
}

fn undated(document: &RawDocumentBuf) -> Undated {
    let datetime = match document.get("datetime") {
        Ok(Some(RawBsonRef::String(_))) => "text of another form",
        Ok(Some(RawBsonRef::DateTime(_))) => "a date",
        Ok(Some(RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_))) => "a number",
        Ok(None | Some(RawBsonRef::Null)) => "missing",
        _ => "of another type",
    };
    Undated { id: document::id_text(document), datetime }
}
