//! Creates, replaces or deletes one holodule.

use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;

use super::super::csrf::{content_type, unsupported};
use super::super::{App, HandlerResult, body, precondition};
use crate::import::{self, ROW_LIMIT};
use crate::model::{Identifier, Invalid};
use crate::respond::{self, HttpError};
use crate::store::Upserted;

/// `201` if it was created, `200` if it existed, with the holodule; `400` if it is invalid or the path has another
/// identifier, `412` if the stored one does not meet the preconditions.
pub(crate) async fn put(app: &App, parts: &Parts, incoming: Incoming, id: &str) -> HandlerResult {
    if content_type(&parts.headers).as_deref() != Some("application/json") {
        return Err(unsupported("the content type must be application/json"));
    }
    let condition = precondition::parse(&parts.headers)?;
    let limit = ROW_LIMIT.min(app.settings.body_limit);
    let body = body::read(incoming, limit, app.settings.body_timeout).await?;
    let entry = import::parse_object(&body).map_err(HttpError::bad_request)?;
    if Identifier::parse(id).map_err(|error| invalid(&error))? != *entry.identifier() {
        return Err(HttpError::bad_request(format!(
            "the identifier in the path differs from the one in the body, {}",
            entry.identifier()
        )));
    }
    let stored = entry.holodule().clone();
    let upserted = if condition.is_none() {
        app.store.upsert(vec![entry]).await.map(|upserted| upserted.first().copied())
    } else {
        app.store.upsert_if(entry, &condition).await
    };
    let status = match upserted.map_err(|error| app.store_failed(&error))? {
        Some(Upserted::Inserted) => StatusCode::CREATED,
        Some(Upserted::Updated | Upserted::Unchanged) => StatusCode::OK,
        None => return Err(precondition::failed()),
    };
    Ok(respond::json(status, &stored))
}

/// `204`; `404` where there is no such holodule, `412` if it does not meet the preconditions.
pub(crate) async fn delete(app: &App, parts: &Parts, id: &str) -> HandlerResult {
    let id = Identifier::parse(id).map_err(|error| invalid(&error))?;
    let condition = precondition::parse(&parts.headers)?;
    let deleted = if condition.is_none() {
        app.store.delete_holodule(&id).await.map(Some)
    } else {
        app.store.delete_if(&id, &condition).await
    };
    match deleted.map_err(|error| app.store_failed(&error))? {
        Some(true) => Ok(respond::no_content()),
        Some(false) => Err(HttpError::not_found("no such holodule")),
        None => Err(precondition::failed()),
    }
}

fn invalid(error: &Invalid) -> HttpError {
    HttpError::bad_request(error.to_string())
}
