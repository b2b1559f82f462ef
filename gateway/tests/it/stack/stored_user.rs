//! Changes of `user01` in MongoDB itself, without a backend.

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::runtime::Runtime;

/// The document of `user01`.
pub(super) struct StoredUser {
    runtime: Runtime,
    users: Collection<Document>,
}

impl StoredUser {
    /// That in the database at `url`.
    pub(super) fn at(url: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(async { Client::with_uri_str(url).await.unwrap() });
        let users = client.default_database().unwrap().collection("users");
        Self { runtime, users }
    }

    /// Applies the operators of `update`.
    pub(super) fn change(&self, update: Document) {
        let update = self.users.update_one(doc! {"username": "user01"}, update);
        assert_eq!(self.runtime.block_on(async { update.await }).unwrap().modified_count, 1);
    }

    /// Deletes it.
    pub(super) fn delete(&self) {
        self.runtime.block_on(async { self.users.delete_one(doc! {"username": "user01"}).await }).unwrap();
    }
}
