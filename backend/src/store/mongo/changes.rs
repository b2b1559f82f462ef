//! Changes of accounts from the change stream of a replica set or sharded cluster.
//!
//! A silent stream does not show whether it is up to date. So each process writes echoes: a number in one document.
//! When an echo arrives in the stream, all earlier changes have arrived too, and a majority has them.

use futures_util::stream::BoxStream;
use mongodb::bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, WriteConcern};

use super::event::{changes_field, collection};
use super::follow::StreamConfig;
use super::users::{disabled, text};
use super::{ECHOES, LOGOUTS, Mongo, USERS, document, is_distributed};
use crate::store::{AccountChange, ChangeDetection, DisabledUser, StoreError};

impl Mongo {
    /// Only replica sets and sharded clusters have change streams.
    pub(in crate::store) async fn change_detection(&self) -> Result<ChangeDetection, StoreError> {
        let hello = self.database.run_command(doc! { "hello": 1 });
        let hello = self.within(async { hello.await }).await?;
        Ok(if is_distributed(&hello) { ChangeDetection::Streaming } else { ChangeDetection::Polling })
    }

    pub(in crate::store) fn changes(&self, echoes: &str) -> BoxStream<'static, Result<AccountChange, StoreError>> {
        let fallback = "users are polled";
        self.follow(StreamConfig { fallback, pipeline: pipeline(echoes).to_vec(), change, initial: AccountChange::All })
    }

    /// Writes an echo. Its arrival in the stream shows that a majority has it.
    pub(in crate::store) async fn echo(&self, echoes: &str, number: i64) -> Result<(), StoreError> {
        let document = doc! { "_id": echoes, "number": number, "at": mongodb::bson::DateTime::now() };
        let document = RawDocumentBuf::try_from(&document).map_err(|error| StoreError::Failed(error.to_string()))?;
        let one = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        // Replaced, because an update event would show a later state of the document.
        let echo = self.echoes.replace_one(doc! { "_id": echoes }, document).upsert(true).write_concern(one);
        self.within(async { echo.await }).await.map(drop)
    }
}

/// Selects the relevant events, without passwords.
fn pipeline(echoes: &str) -> [Document; 2] {
    [
        doc! { "$match": { "$or": [
            { "operationType": { "$in": ["drop", "rename", "dropDatabase", "invalidate"] } },
            { "ns.coll": { "$in": [USERS, LOGOUTS] } },
            { "ns.coll": ECHOES, "documentKey._id": echoes },
        ] } },
        doc! { "$project": {
            "operationType": 1, "ns": 1, "to": 1, "clusterTime": 1, "documentKey._id": 1,
            "fullDocument.username": 1, "fullDocument.disabled": 1, "fullDocument.identity": 1, "fullDocument.number": 1, "updateDescription.updatedFields.username": 1,
            "updateDescription.updatedFields.disabled": 1, "updateDescription.removedFields": 1,
        } },
    ]
}

/// The change described by an event; `None` for an irrelevant one.
fn change(event: &RawDocument) -> Option<AccountChange> {
    let operation = event.get_str("operationType").ok()?;
    let document = event.get_document("fullDocument").ok();
    match (operation, collection(event, "ns")) {
        ("insert" | "replace", Some(ECHOES)) => match document?.get("number") {
            Ok(Some(RawBsonRef::Int64(number))) => Some(AccountChange::Echo(number)),
            _ => None,
        },
        ("insert" | "update", Some(USERS)) => {
            // A document that was deleted or renamed meanwhile is found by a poll.
            let is_renamed = changes_field(event, "username").unwrap_or(false);
            let name = document.and_then(|document| text(document, "username")).filter(|_| !is_renamed);
            let Some(username) = name.map(str::to_owned) else { return Some(AccountChange::Unknown) };
            Some(match disabled_user(event, &username) {
                Some(user) => AccountChange::Disabled { user, is_replaced: false },
                None => AccountChange::Identity(username),
            })
        }
        ("replace", Some(USERS)) => {
            let name = document.and_then(|document| text(document, "username"));
            let user = name.and_then(|name| disabled_user(event, name));
            Some(user.map_or(AccountChange::Unknown, |user| AccountChange::Disabled { user, is_replaced: true }))
        }
        ("delete", Some(USERS)) => Some(AccountChange::Unknown),
        ("insert" | "update" | "replace", Some(LOGOUTS)) => {
            let identity = document.and_then(|document| text(document, "identity"));
            Some(identity.map_or(AccountChange::Unknown, |identity| AccountChange::Identity(identity.to_owned())))
        }
        // The server removes expired documents.
        ("delete", Some(LOGOUTS | ECHOES)) => None,
        ("drop", Some(USERS | LOGOUTS)) | ("dropDatabase" | "invalidate", _) => Some(AccountChange::All),
        ("rename", from) => [from, collection(event, "to")]
            .iter()
            .any(|name| matches!(name, Some(USERS | LOGOUTS)))
            .then_some(AccountChange::All),
        _ => None,
    }
}

/// The user of an event that disabled one.
fn disabled_user(event: &RawDocument, username: &str) -> Option<DisabledUser> {
    let set = match event.get_document("updateDescription") {
        // The document of an update may be of a later time, when the user was enabled again.
        Ok(update) => update.get_document("updatedFields").ok()?,
        Err(_) => event.get_document("fullDocument").ok()?,
    };
    let document = event.get_document("documentKey").ok().and_then(document::id_bytes)?;
    let at = event.get_timestamp("clusterTime").map_or((0, 0), |at| (at.time, at.increment));
    disabled(set).then(|| DisabledUser { username: username.to_owned(), document, at })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Timestamp, rawdoc};

    use super::*;

    fn event(operation: &str, collection: &str, document: RawDocumentBuf) -> RawDocumentBuf {
        rawdoc! { "operationType": operation, "ns": { "db": "d", "coll": collection }, "fullDocument": document }
    }

    #[test]
    fn each_event_maps_to_an_identity_or_to_unknown() {
        let user = || rawdoc! { "username": "user01" };
        let of = Some(AccountChange::Identity("user01".to_owned()));
        assert_eq!(change(&event("insert", USERS, user())), of);
        assert_eq!(change(&event("update", USERS, user())), of);
        assert_eq!(
            change(&event("replace", USERS, user())),
            Some(AccountChange::Unknown),
            "it may have had another name"
        );
        assert_eq!(change(&event("update", USERS, rawdoc! {})), Some(AccountChange::Unknown), "deleted meanwhile");
        assert_eq!(
            change(&rawdoc! { "operationType": "delete", "ns": { "coll": USERS } }),
            Some(AccountChange::Unknown)
        );
        assert_eq!(change(&event("insert", LOGOUTS, rawdoc! { "identity": "user01" })), of);
        assert_eq!(change(&rawdoc! { "operationType": "delete", "ns": { "coll": LOGOUTS } }), None);
        assert_eq!(change(&event("replace", ECHOES, rawdoc! { "number": 7_i64 })), Some(AccountChange::Echo(7)));
        assert_eq!(change(&event("insert", "holodules", user())), None);
    }

    #[test]
    fn renaming_a_user_is_an_unknown_change() {
        let update = |description: RawDocumentBuf| {
            rawdoc! { "operationType": "update", "ns": { "coll": USERS }, "fullDocument": { "username": "user02" },
            "updateDescription": description }
        };
        for description in
            [rawdoc! { "updatedFields": { "username": "x" } }, rawdoc! { "removedFields": ["x", "username"] }]
        {
            assert_eq!(change(&update(description)), Some(AccountChange::Unknown));
        }
        let other = update(rawdoc! { "updatedFields": {}, "removedFields": ["disabled"] });
        assert_eq!(change(&other), Some(AccountChange::Identity("user02".to_owned())));
    }

    #[test]
    fn a_user_who_was_disabled_is_reported_whatever_the_document_is_now() {
        let of = |set: RawDocumentBuf| {
            change(&rawdoc! {
                "operationType": "update", "ns": { "coll": USERS }, "clusterTime": Timestamp { time: 7, increment: 1 },
                "documentKey": { "_id": 3, "username": "user01" },
                "fullDocument": { "username": "user01", "disabled": false },
                "updateDescription": { "updatedFields": set, "removedFields": [] },
            })
        };
        let document = rawdoc! { "_id": 3 }.into_bytes();
        let user = DisabledUser { username: "user01".to_owned(), document, at: (7, 1) };
        let disabled = Some(AccountChange::Disabled { user, is_replaced: false });
        assert_eq!(of(rawdoc! { "disabled": true }), disabled);
        assert_eq!(of(rawdoc! { "disabled": 1 }), disabled, "each value but false and null disables");
        for enabled in [rawdoc! { "disabled": false }, rawdoc! { "disabled": null }, rawdoc! { "password": "x" }] {
            assert_eq!(of(enabled), Some(AccountChange::Identity("user01".to_owned())));
        }
    }

    #[test]
    fn a_user_who_was_replaced_by_a_disabled_one_is_reported() {
        let of = |operation: &str, disabled: bool| {
            change(&rawdoc! {
                "operationType": operation, "ns": { "coll": USERS }, "clusterTime": Timestamp { time: 7, increment: 1 },
                "documentKey": { "_id": 3 }, "fullDocument": { "username": "user01", "disabled": disabled },
            })
        };
        let document = rawdoc! { "_id": 3 }.into_bytes();
        let user = DisabledUser { username: "user01".to_owned(), document, at: (7, 1) };
        let expected = |is_replaced| Some(AccountChange::Disabled { user: user.clone(), is_replaced });
        assert_eq!((of("replace", true), of("insert", true)), (expected(true), expected(false)));
        assert_eq!(of("replace", false), Some(AccountChange::Unknown));
    }

    #[test]
    fn dropping_a_collection_changes_all_accounts() {
        let of = |operation: &str, collection: &str| {
            change(&rawdoc! { "operationType": operation, "ns": { "coll": collection }, "to": { "coll": "x" } })
        };
        for collection in [USERS, LOGOUTS] {
            assert_eq!(of("drop", collection), Some(AccountChange::All));
            assert_eq!(of("rename", collection), Some(AccountChange::All));
        }
        assert_eq!((of("drop", "holodules"), of("rename", "holodules")), (None, None));
        let onto = rawdoc! { "operationType": "rename", "ns": { "coll": "x" }, "to": { "coll": USERS } };
        assert_eq!(change(&onto), Some(AccountChange::All));
        assert_eq!(change(&rawdoc! { "operationType": "invalidate" }), Some(AccountChange::All));
    }
}
