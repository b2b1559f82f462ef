//! Reads of single holodules.

use super::{Embedded, holodules};
use crate::model::Identifier;
use crate::store::{FOUND_LIMIT, FoundHolodule, StoreError};

impl Embedded {
    pub(in crate::store) async fn find_holodules(&self, id: &Identifier) -> Result<Vec<FoundHolodule>, StoreError> {
        let id = id.clone();
        let found = self.read(move |transaction| holodules::find(transaction, &id, FOUND_LIMIT as usize)).await?;
        Ok(found.into_iter().map(|holodule| FoundHolodule { holodule: Some(holodule), is_exact: true }).collect())
    }
}
