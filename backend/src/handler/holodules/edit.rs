//! Creates, replaces or deletes one holodule.

use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;

use super::super::csrf::{content_type, unsupported};
use super::super::{App, HandlerResult, body};
use crate::import::{self, ROW_LIMIT};
use crate::model::{Identifier, Invalid};
use crate::respond::{self, HttpError};
use crate::store::Upserted;

/// `201` if it was created, `200` if it existed, with the holodule; `400` if it is invalid or the path has another
/// identifier.
pub(crate) async fn put(app: &App, parts: &Parts, incoming: Incoming, id: &str) -> HandlerResult {
    if content_type(&parts.headers).as_deref() != Some("application/json") {
        return Err(unsupported("the content type must be application/json"));
    }
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
    let upserted = app.store.upsert(vec![entry]).await.map_err(|error| app.store_failed(&error))?;
    let status = if upserted.contains(&Upserted::Inserted) { StatusCode::CREATED } else { StatusCode::OK };
    Ok(respond::json(status, &stored))
}

/// `204`; `404` where there is no such holodule.
pub(crate) async fn delete(app: &App, id: &str) -> HandlerResult {
    let id = Identifier::parse(id).map_err(|error| invalid(&error))?;
    if app.store.delete_holodule(&id).await.map_err(|error| app.store_failed(&error))? {
        return Ok(respond::no_content());
    }
    Err(HttpError::not_found("no such holodule"))
}

fn invalid(error: &Invalid) -> HttpError {
    HttpError::bad_request(error.to_string())
}
