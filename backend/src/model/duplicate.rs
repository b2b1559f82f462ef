//! Documents that share a `video_id`, as other programs may have stored them.

use serde::Serialize;

use super::holodule::Holodule;

/// A `video_id` in several documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateVideo {
    /// The `video_id`, of any form.
    pub video_id: String,
    /// The number of its documents.
    pub total: u64,
    /// The documents, or the first of them.
    pub documents: Vec<DuplicateDocument>,
}

/// One of the documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateDocument {
    /// Distinguishes it from all other documents: the digits of its `ObjectId`, or `x` and the bytes of another `_id` in
    /// hexadecimal.
    pub id: String,
    /// Its content; `None` if it cannot be read.
    pub holodule: Option<Holodule>,
}
