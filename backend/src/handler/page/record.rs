//! One stream as it is stored, for the scripts of the page.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};

use super::super::parameters::Parameters;
use super::super::{App, HandlerResult};
use crate::import;
use crate::model::{Holodule, Identifier, tag_of};
use crate::respond::{self, HttpError};
use crate::store::FoundHolodule;

/// The number of documents that a deletion removes.
const DOCUMENTS: HeaderName = HeaderName::from_static("x-documents");
/// The number of documents that this identifier denotes: of more than one, only the first could be edited.
const SAME: HeaderName = HeaderName::from_static("x-same-identifier");
/// Whether storing the response's body after a deletion restores the document: `true` or `false`.
const RESTORABLE: HeaderName = HeaderName::from_static("x-restorable");

/// `200` with the stream `id` exactly as in exports, without the line end, and its entity tag for the preconditions of
/// writes; `404` if there is none.
pub(crate) async fn record(app: &App, parts: &Parts) -> HandlerResult {
    let parameters = Parameters::decode(parts.uri.query())?.only(&["id"])?.unrepeated()?;
    let id = parameters.first("id").ok_or_else(|| HttpError::bad_request("the query has no id"))?;
    let id = Identifier::parse(id).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let found = app.store.find_holodules(&id).await.map_err(|error| app.store_failed(&error))?;
    let Some(first) = found.first() else { return Err(HttpError::not_found("no such holodule")) };
    let unreadable = || HttpError::new(StatusCode::CONFLICT, "the document cannot be read");
    let holodule = first.holodule.as_ref().ok_or_else(unreadable)?;
    let text = serde_json::to_vec(holodule).map_err(|_| unreadable())?;
    let by_video = matches!(id, Identifier::VideoId(_));
    let is_other = |found: &&FoundHolodule| {
        let video_id = found.holodule.as_ref().and_then(|holodule| holodule.video_id.as_deref());
        !by_video && !video_id.unwrap_or_default().is_empty()
    };
    let same = found.len() - found.iter().filter(is_other).count();
    // If several documents have the key, an upload may change another one.
    let restorable = found.len() == 1 && first.is_exact && is_restored_by(&text, holodule);

    let tag = HeaderValue::try_from(tag_of(&text)).map_err(|_| unreadable())?;
    let mut response = respond::with(StatusCode::OK, respond::full(text));
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(SAME, HeaderValue::from(same));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(DOCUMENTS, HeaderValue::from(if by_video { found.len() } else { 1 }));
    headers.insert(RESTORABLE, HeaderValue::from_static(if restorable { "true" } else { "false" }));
    Ok(response)
}

/// Whether an upload of `text` stores `holodule`: older documents can have values that are rejected, or lack fields that
/// new ones always have.
fn is_restored_by(text: &[u8], holodule: &Holodule) -> bool {
    import::parse_object(text).is_ok_and(|entry| entry.holodule() == holodule)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_an_upload_stores_unchanged_is_restored() {
        let is_restored = |value: serde_json::Value| {
            let holodule: Holodule = serde_json::from_value(value).unwrap();
            is_restored_by(&serde_json::to_vec(&holodule).unwrap(), &holodule)
        };
        let whole = json!({"key": "", "video_id": "dQw4w9WgXc_", "datetime": "20201209 230000", "tags": ["a", 1.5]});
        assert!(is_restored(whole.clone()));
        for (field, value) in [
            ("datetime", json!("20201209 250000")),
            ("url", json!("x")),
            ("video_id", json!(null)),
            ("key", json!(null)),
        ] {
            let mut other = whole.clone();
            other[field] = value;
            assert!(!is_restored(other), "{field}");
        }
    }
}
