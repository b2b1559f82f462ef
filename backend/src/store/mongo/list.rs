//! Lists of holodules.

use super::Mongo;
use crate::model::{PageRequest, Selection};
use crate::store::{Listing, StoreError};

impl Mongo {
    pub(in crate::store) async fn list(
        &self,
        _selection: &Selection,
        _page: &PageRequest,
    ) -> Result<Listing, StoreError> {
        Err(StoreError::Failed("not built yet".to_owned()))
    }
}
