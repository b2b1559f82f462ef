//! What a route accepts of a request besides its head.

/// The bounds of the requests of a route. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum length of a request body, in bytes.
    pub max_body_bytes: Option<u64>,
}

impl Bounds {
    /// Whether a body whose head declares `length` bytes is too large.
    pub fn excludes(&self, length: u64) -> bool {
        self.max_body_bytes.is_some_and(|limit| length > limit)
    }
}
