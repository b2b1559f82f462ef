//! Writes of holodules under a condition.
//!
//! A write applies to a document only while all its fields are those that met the condition; otherwise the document is
//! read and checked again.

use super::Mongo;
use super::holodules::{ATTEMPTS, FoundHolodule, conflict, run_to_completion};
use crate::model::{Identifier, Precondition, ValidHolodule};
use crate::store::changed::TouchedDays;
use crate::store::{StoreError, Upserted};

impl Mongo {
    pub(in crate::store) async fn upsert_if(
        &self,
        entry: ValidHolodule,
        condition: &Precondition,
    ) -> Result<Option<Upserted>, StoreError> {
        // Without the unique index, two writers could create the same video.
        self.indexes_settled().await?;
        let (engine, condition, touched) = (self.clone(), condition.clone(), TouchedDays::none(&self.changed));
        run_to_completion(async move {
            for _ in 0..ATTEMPTS {
                let found = engine.found_whole(entry.identifier()).await?.into_iter().next();
                let allowed = match &found {
                    Some(found) => condition.allows(found.holodule.as_ref()),
                    None => condition.allows_missing(),
                };
                if !allowed {
                    return Ok(None);
                }
                if let Some(outcome) = engine.try_upsert(&entry, found, &touched).await? {
                    return Ok(Some(outcome));
                }
            }
            Err(conflict())
        })
        .await
    }

    pub(in crate::store) async fn delete_if(
        &self,
        id: &Identifier,
        condition: &Precondition,
    ) -> Result<Option<bool>, StoreError> {
        let (engine, id, condition) = (self.clone(), id.clone(), condition.clone());
        let touched = TouchedDays::none(&self.changed);
        run_to_completion(async move {
            for _ in 0..ATTEMPTS {
                let mut found = engine.found_whole(&id).await?;
                if matches!(id, Identifier::Key(_)) {
                    found.truncate(1);
                }
                if !found.iter().all(|found| condition.allows(found.holodule.as_ref())) {
                    return Ok(None);
                }
                if found.is_empty() {
                    return Ok(Some(false));
                }
                if engine.delete_unchanged(&id, &found, &touched).await? >= found.len() as u64 {
                    return Ok(Some(true));
                }
            }
            Err(conflict())
        })
        .await
    }

    /// The documents of an identifier, which a write needs unchanged. The first is the one that an upload would
    /// replace.
    async fn found_whole(&self, id: &Identifier) -> Result<Vec<FoundHolodule>, StoreError> {
        let documents = self.documents(id, None).await?;
        Ok(documents.iter().filter_map(|document| FoundHolodule::read_whole(document)).collect())
    }
}
