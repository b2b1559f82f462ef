//! Converts documents of all versions to and from the model.

use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, rawdoc};
use serde_json::Value;

use crate::model::Holodule;

/// A document that cannot be read, with its `_id` as text.
pub(super) struct UnreadableDocument(pub(super) String);

/// Reads a holodule. A missing or null text is missing. Text of another type, or a damaged document, is an error.
/// Unknown fields are ignored.
pub(super) fn holodule(document: &RawDocument) -> Result<Holodule, UnreadableDocument> {
    let unreadable = || UnreadableDocument(id_text(document));
    let mut holodule = Holodule::default();
    for element in document {
        let (name, value) = element.map_err(|_| unreadable())?;
        let text = match name.as_str() {
            "key" => &mut holodule.key,
            "code" => &mut holodule.code,
            "video_id" => &mut holodule.video_id,
            "datetime" => &mut holodule.datetime,
            "name" => &mut holodule.name,
            "title" => &mut holodule.title,
            "url" => &mut holodule.url,
            "description" => &mut holodule.description,
            other => {
                let further = match other {
                    "published_at" => &mut holodule.published_at,
                    "channel_id" => &mut holodule.channel_id,
                    "channel_title" => &mut holodule.channel_title,
                    "tags" => &mut holodule.tags,
                    _ => continue,
                };
                *further = json(value).ok_or_else(unreadable)?;
                continue;
            }
        };
        *text = match value {
            RawBsonRef::String(value) => Some(value.to_owned()),
            RawBsonRef::Null | RawBsonRef::Undefined => None,
            _ => return Err(unreadable()),
        };
    }
    Ok(holodule)
}

/// The fields in which `new` differs from `old`, for `$set`.
pub(super) fn changes(old: &Holodule, new: &Holodule) -> Result<Document, mongodb::bson::error::Error> {
    let mut changes = Document::new();
    for ((name, old), (_, new)) in texts(old).into_iter().zip(texts(new)) {
        if let Some(new) = new.as_ref().filter(|_| old != new) {
            changes.insert(name, new.as_str());
        }
    }
    for ((name, old), (_, new)) in further(old).into_iter().zip(further(new)) {
        if let Some(new) = new.as_ref().filter(|_| old != new) {
            // Extended JSON from an export is converted back to its types.
            changes.insert(name, bson(new)?);
        }
    }
    Ok(changes)
}

fn texts(holodule: &Holodule) -> [(&'static str, &Option<String>); 8] {
    [
        ("key", &holodule.key),
        ("code", &holodule.code),
        ("video_id", &holodule.video_id),
        ("datetime", &holodule.datetime),
        ("name", &holodule.name),
        ("title", &holodule.title),
        ("url", &holodule.url),
        ("description", &holodule.description),
    ]
}

fn further(holodule: &Holodule) -> [(&'static str, &Option<Value>); 4] {
    [
        ("published_at", &holodule.published_at),
        ("channel_id", &holodule.channel_id),
        ("channel_title", &holodule.channel_title),
        ("tags", &holodule.tags),
    ]
}

/// A value as JSON, or as MongoDB's extended JSON for types without an equivalent. The inner `None` is null, the outer
/// one a damaged value.
fn json(value: RawBsonRef<'_>) -> Option<Option<Value>> {
    let value = serde_json::to_value(Bson::try_from(value).ok()?).ok()?;
    Some(Some(value).filter(|value| !value.is_null()))
}

fn bson(value: &Value) -> Result<Bson, mongodb::bson::error::Error> {
    match serde_json::from_value(value.clone()) {
        Ok(value) => Ok(value),
        // An object that only resembles extended JSON is stored as it is.
        Err(_) => mongodb::bson::serialize_to_bson(value),
    }
}

/// The `_id` for a log line, in hexadecimal if it is an ObjectId.
pub(super) fn id_text(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(RawBsonRef::ObjectId(id))) => id.to_hex(),
        Ok(Some(RawBsonRef::String(id))) => id.chars().take(128).collect(),
        Ok(Some(other)) => format!("{other:?}").chars().take(128).collect(),
        Ok(None) | Err(_) => "none".to_owned(),
    }
}

/// The `_id` in hexadecimal, as text or as a number; [`Mongo::schedule`](super::Mongo::schedule) finds a
/// document by it.
pub(super) fn shown_id(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(RawBsonRef::String(id))) => id.to_owned(),
        Ok(Some(RawBsonRef::Int32(id))) => id.to_string(),
        Ok(Some(RawBsonRef::Int64(id))) => id.to_string(),
        _ => id_text(document),
    }
}

/// The `_id`, to find the document again.
pub(super) fn id(document: &RawDocument) -> Option<Bson> {
    document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok())
}

/// The bytes that distinguish a document's `_id` from others; `None` if it has none.
pub(super) fn id_bytes(document: &RawDocument) -> Option<Vec<u8>> {
    let id = document.get("_id").ok().flatten()?;
    Some(rawdoc! { "_id": id }.into_bytes())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, RawDocumentBuf, doc};
    use serde_json::json;

    use super::*;

    fn read(document: &Document) -> Option<Holodule> {
        holodule(&RawDocumentBuf::try_from(document).unwrap()).ok()
    }

    #[test]
    fn documents_of_all_versions_are_read() {
        let bare =
            read(&doc! { "_id": ObjectId::new(), "title": "t", "description": Bson::Null, "unknown": 1 }).unwrap();
        assert_eq!(bare, Holodule { title: Some("t".into()), ..Holodule::default() });
        let newer =
            read(&doc! { "code": "HL0503", "tags": ["a", "b"], "published_at": DateTime::from_millis(0) }).unwrap();
        assert_eq!(newer.tags, Some(json!(["a", "b"])));
        assert!(newer.published_at.unwrap().get("$date").is_some());
    }

    #[test]
    fn a_text_of_another_type_cannot_be_read() {
        for value in [Bson::Int32(1), Bson::Boolean(true), Bson::Array(vec![]), Bson::Document(doc! {})] {
            assert_eq!(read(&doc! { "title": value }), None);
        }
        let id = ObjectId::new();
        let Err(UnreadableDocument(text)) = holodule(&rawdoc! { "_id": id, "title": 1 }) else { panic!() };
        assert_eq!(text, id.to_hex());
    }

    #[test]
    fn only_what_differs_is_set_and_dates_keep_their_type() {
        let old = read(&doc! { "title": "t", "name": "n", "published_at": DateTime::from_millis(0) }).unwrap();
        let new = Holodule { name: Some("m".into()), ..old.clone() };
        assert_eq!(changes(&old, &new).unwrap(), doc! { "name": "m" });
        let whole = changes(&Holodule::default(), &old).unwrap();
        assert_eq!(whole, doc! { "name": "n", "title": "t", "published_at": DateTime::from_millis(0) });
        assert!(changes(&old, &old).unwrap().is_empty());
    }

    #[test]
    fn a_value_that_resembles_extended_json_is_stored_unchanged() {
        let odd = Holodule { tags: Some(json!({ "$oid": 1 })), ..Holodule::default() };
        assert_eq!(changes(&Holodule::default(), &odd).unwrap(), doc! { "tags": { "$oid": 1_i64 } });
    }
}
