//! Roles of users: an array of strings in the user's document, missing if the user has none.
//!
//! A change replaces the value that was read only if it is still stored, and otherwise starts again. So concurrent
//! changes lose nothing, and the limits hold in any case.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{Mongo, document};
use crate::model::{Roles, RolesChange, StoredRoles};
use crate::store::{RolesChanged, StoreError};

/// The field in the documents of users.
pub(super) const ROLES: &str = "roles";

/// The pause before a change starts again.
const PAUSE: Duration = Duration::from_millis(20);

impl Mongo {
    pub(in crate::store) async fn roles(&self, username: &str) -> Result<Option<StoredRoles>, StoreError> {
        Ok(self.user_document(username).await?.map(|document| stored(&document)))
    }

    pub(in crate::store) async fn change_roles(
        &self,
        username: &str,
        change: &RolesChange,
    ) -> Result<RolesChanged, StoreError> {
        let started = Instant::now();
        while started.elapsed() < self.timeout {
            let Some(user) = self.user_document(username).await? else { return Ok(RolesChanged::NoSuchUser) };
            let Some(id) = document::id(&user) else { return Ok(RolesChanged::NoSuchUser) };
            let mut filter = doc! { "_id": id, "username": username };
            let roles = match change.apply(&stored(&user)) {
                Ok(roles) => roles,
                Err(refused) => return Ok(RolesChanged::Refused(refused)),
            };
            if matches!(change, RolesChange::Edit { .. }) {
                // Null is also equal to a missing field.
                filter.insert(ROLES, doc! { "$eq": raw(&user) });
            }
            let update = self.users.update_one(filter, update(&roles));
            if self.within(async { update.await }).await?.matched_count > 0 {
                return Ok(RolesChanged::Done);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(StoreError::Unavailable("a user was changed repeatedly by others".to_owned()))
    }
}

/// The roles in a user's document.
pub(super) fn stored(document: &RawDocument) -> StoredRoles {
    let array = match document.get(ROLES) {
        Ok(None | Some(RawBsonRef::Null)) => return StoredRoles::default(),
        Ok(Some(RawBsonRef::Array(array))) => array,
        _ => return StoredRoles::Unreadable,
    };
    // Other values become an empty text, which is not a role.
    let texts = array.into_iter().map(|value| match value {
        Ok(RawBsonRef::String(text)) => text,
        _ => "",
    });
    Roles::parse(texts).map_or(StoredRoles::Unreadable, StoredRoles::Valid)
}

/// The value for a document; `None` without roles.
pub(super) fn value(roles: &Roles) -> Option<Bson> {
    let array = || roles.iter().map(Bson::from).collect();
    (!roles.is_empty()).then(|| Bson::Array(array()))
}

fn raw(document: &RawDocument) -> Bson {
    match document.get(ROLES) {
        Ok(Some(value)) => Bson::try_from(value).unwrap_or(Bson::Null),
        _ => Bson::Null,
    }
}

fn update(roles: &Roles) -> Document {
    match value(roles) {
        Some(roles) => doc! { "$set": { ROLES: roles } },
        None => doc! { "$unset": { ROLES: "" } },
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn roles(texts: &[&str]) -> StoredRoles {
        StoredRoles::Valid(Roles::parse(texts).unwrap())
    }

    #[test]
    fn missing_roles_are_none_and_other_values_are_unreadable() {
        for (document, expected) in [
            (rawdoc! {}, roles(&[])),
            (rawdoc! { "roles": null }, roles(&[])),
            (rawdoc! { "roles": [] }, roles(&[])),
            (rawdoc! { "roles": ["b", "a", "b"] }, roles(&["a", "b"])),
        ] {
            assert_eq!(stored(&document), expected, "{document:?}");
        }
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let many = RawDocumentBuf::try_from(&doc! { "roles": many }).unwrap();
        let unreadable = [
            rawdoc! { "roles": "a" },
            rawdoc! { "roles": "a b" },
            rawdoc! { "roles": { "a": true } },
            rawdoc! { "roles": 1 },
            rawdoc! { "roles": false },
            rawdoc! { "roles": ["a", 1] },
            rawdoc! { "roles": ["a", null] },
            rawdoc! { "roles": [["a"]] },
            rawdoc! { "roles": ["a", ""] },
            rawdoc! { "roles": ["a b"] },
            many,
        ];
        for document in unreadable {
            assert_eq!(stored(&document), StoredRoles::Unreadable, "{document:?}");
        }
    }

    #[test]
    fn no_roles_are_not_stored() {
        let some = Roles::parse(["b", "a"]).unwrap();
        assert_eq!(update(&some), doc! { "$set": { "roles": ["a", "b"] } });
        assert_eq!(update(&Roles::default()), doc! { "$unset": { "roles": "" } });
    }
}
