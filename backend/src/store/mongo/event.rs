//! Reads the parts of change stream events.

use mongodb::bson::{RawBsonRef, RawDocument};

use super::users::text;

/// The name of the collection in the namespace `name`.
pub(super) fn collection<'a>(event: &'a RawDocument, name: &str) -> Option<&'a str> {
    event.get_document(name).ok().and_then(|namespace| text(namespace, "coll"))
}

/// Whether an update set or removed `field`. `None` if the event does not describe the update.
pub(super) fn changes_field(event: &RawDocument, field: &str) -> Option<bool> {
    let update = event.get_document("updateDescription").ok()?;
    let set = update.get_document("updatedFields").is_ok_and(|fields| matches!(fields.get(field), Ok(Some(_))));
    let is_field = |removed| matches!(removed, Ok(RawBsonRef::String(name)) if name == field);
    Some(set || update.get_array("removedFields").is_ok_and(|fields| fields.into_iter().any(is_field)))
}

/// Whether the collection or database was dropped or renamed.
pub(super) fn is_end_of_collection(event: &RawDocument) -> bool {
    matches!(event.get_str("operationType"), Ok("drop" | "rename" | "dropDatabase" | "invalidate"))
}
