//! Reads of single holodules, for administrators.

use super::{Engine, Store, StoreError, engine};
use crate::model::{Holodule, Identifier};

/// The maximum number of documents that [`Store::find_holodules`] returns.
pub const FOUND_LIMIT: u32 = 100;

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundHolodule {
    /// Its content; `None` if it cannot be read.
    pub holodule: Option<Holodule>,
    /// Whether storing the content makes the same document: it has no other fields or types. The `_id` does not matter.
    pub is_exact: bool,
}

impl Store {
    /// The documents with an identifier, at most [`FOUND_LIMIT`]. The first is the one that [`Store::upsert`] would
    /// replace. [`Store::delete_holodule`] would delete all of the same video, but of the same key only the first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn find_holodules(&self, id: &Identifier) -> Result<Vec<FoundHolodule>, StoreError> {
        engine!(self.find_holodules(id))
    }

    /// The name of the engine.
    pub fn engine_name(&self) -> &'static str {
        match &self.engine {
            Engine::Mongo(_) => "MongoDB",
            Engine::Embedded(_) => "redb",
        }
    }
}
