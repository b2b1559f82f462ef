//! Writes of holodules under a condition, each with its check in one transaction.

use super::{Embedded, holodules};
use crate::model::{Identifier, Precondition, ValidHolodule};
use crate::store::{StoreError, Upserted};

impl Embedded {
    pub(in crate::store) async fn upsert_if(
        &self,
        entry: ValidHolodule,
        condition: &Precondition,
    ) -> Result<Option<Upserted>, StoreError> {
        let condition = condition.clone();
        self.write_days(move |transaction, touched| {
            let allowed = holodules::allows(transaction, entry.identifier(), &condition)?;
            if !allowed.unwrap_or_else(|| condition.allows_missing()) {
                return Ok(None);
            }
            Ok(holodules::upsert(transaction, &[entry], touched)?.pop())
        })
        .await
    }

    pub(in crate::store) async fn delete_if(
        &self,
        id: &Identifier,
        condition: &Precondition,
    ) -> Result<Option<bool>, StoreError> {
        let (id, condition) = (id.clone(), condition.clone());
        self.write_days(move |transaction, touched| {
            if holodules::allows(transaction, &id, &condition)? == Some(false) {
                return Ok(None);
            }
            holodules::delete(transaction, &id, touched).map(Some)
        })
        .await
    }
}
