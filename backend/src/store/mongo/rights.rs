//! Checks the rights of the database user.

use mongodb::bson::{Document, doc};

use super::{
    CALENDARS, DAYS, ECHOES, HOLODULES, LOGOUTS, Mongo, PASSWORD_STATES, SCHEDULES, STREAMERS, USERS, any_member,
};
use crate::store::StoreError;

/// The actions on each collection.
const ACTIONS: [&str; 4] = ["find", "insert", "update", "remove"];

impl Mongo {
    /// Reads from a collection, and compares the privileges with the required ones.
    pub(in crate::store) async fn check_rights(&self) -> Result<(), StoreError> {
        let command = doc! { "connectionStatus": 1, "showPrivileges": true };
        let status = self.database.run_command(command).selection_criteria(any_member());
        let find = self.users.find_one(doc! {}).projection(doc! { "_id": 1 }).selection_criteria(any_member());
        let find = async { find.max_time(self.timeout).await };
        // A server without access control has no user, and a server with it rejects the read without one.
        let (status, _) = futures_util::try_join!(self.within(async { status.await }), self.within(find))?;
        let missing = missing(&status, self.database.name());
        missing.map_or(Ok(()), |(action, collection)| {
            Err(StoreError::Failed(format!("the database user lacks the right to {action} in {collection}")))
        })
    }
}

/// The first right missing in the response to `connectionStatus`, if a user is authenticated.
fn missing(status: &Document, database: &str) -> Option<(&'static str, &'static str)> {
    let status = status.get_document("authInfo").ok()?;
    if status.get_array("authenticatedUsers").ok()?.is_empty() {
        return None;
    }
    let privileges = status.get_array("authenticatedUserPrivileges").ok()?;
    let privileges: Vec<&Document> = privileges.iter().filter_map(|privilege| privilege.as_document()).collect();
    let allows = |action: &str, collection: &str| {
        privileges.iter().any(|privilege| {
            let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
            let resource = privilege.get_document("resource").is_ok_and(|on| covers(on, database, collection));
            resource && actions.iter().any(|allowed| allowed.as_str() == Some(action))
        })
    };
    [HOLODULES, USERS, PASSWORD_STATES, LOGOUTS, CALENDARS, ECHOES, DAYS, STREAMERS]
        .into_iter()
        .flat_map(|collection| ACTIONS.map(|action| (action, collection)))
        // Other programs write it.
        .chain([("find", SCHEDULES)])
        .find(|(action, collection)| !allows(action, collection))
}

/// Whether a privilege's resource includes this collection; an empty name matches any.
fn covers(resource: &Document, database: &str, collection: &str) -> bool {
    let is = |name: &str, value: &str| resource.get_str(name).is_ok_and(|of| of.is_empty() || of == value);
    resource.get_bool("anyResource").unwrap_or(false) || (is("db", database) && is("collection", collection))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(privileges: Vec<Document>) -> Document {
        let users = vec![doc! { "user": "u", "db": "admin" }];
        doc! { "authInfo": { "authenticatedUsers": users, "authenticatedUserPrivileges": privileges } }
    }

    #[test]
    fn the_first_missing_right_is_named() {
        let on = |db: &str, collection: &str, actions: &[&str]| {
            let actions: Vec<&str> = actions.to_vec();
            doc! { "resource": { "db": db, "collection": collection }, "actions": actions }
        };
        assert_eq!(missing(&status(vec![]), "d"), Some(("find", HOLODULES)));
        assert_eq!(missing(&status(vec![on("d", "", &ACTIONS)]), "d"), None);
        assert_eq!(missing(&status(vec![on("", "", &ACTIONS)]), "d"), None);
        assert_eq!(missing(&status(vec![on("e", "", &ACTIONS)]), "d"), Some(("find", HOLODULES)));
        assert_eq!(missing(&status(vec![on("d", "", &["find"])]), "d"), Some(("insert", HOLODULES)));
        let some = vec![on("d", HOLODULES, &ACTIONS), on("d", USERS, &["find"]), on("d", USERS, &["insert"])];
        assert_eq!(missing(&status(some), "d"), Some(("update", USERS)));
        let any = doc! { "resource": { "anyResource": true }, "actions": ACTIONS.to_vec() };
        assert_eq!(missing(&status(vec![any]), "d"), None);
        assert_eq!(missing(&doc! { "authInfo": { "authenticatedUsers": [] } }, "d"), None, "no authentication");
    }
}
