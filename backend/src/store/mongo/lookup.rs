//! Reads of single holodules.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};

use super::holodules::filter;
use super::{Mongo, document};
use crate::model::{Holodule, Identifier};
use crate::store::lookup::FOUND_LIMIT;
use crate::store::{FoundHolodule, StoreError};

impl Mongo {
    pub(in crate::store) async fn find_holodules(&self, id: &Identifier) -> Result<Vec<FoundHolodule>, StoreError> {
        let documents = self.documents(id, Some(FOUND_LIMIT)).await?;
        Ok(documents.iter().map(|document| found(document)).collect())
    }

    /// The documents of an identifier, at most `limit`. The first is the one that an upload would replace.
    pub(super) async fn documents(
        &self,
        id: &Identifier,
        limit: Option<u32>,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        // A limit of 0 is none.
        let limit = limit.map_or(0, i64::from);
        let find = self.holodules.find(filter(id)).sort(doc! { "_id": 1 }).limit(limit);
        let mut documents: Vec<RawDocumentBuf> =
            self.within(async { find.max_time(self.timeout).await?.try_collect().await }).await?;
        if matches!(id, Identifier::Key(_)) {
            documents.sort_by_key(|document| !document.get_str("video_id").unwrap_or_default().is_empty());
        }
        Ok(documents)
    }
}

fn found(document: &RawDocument) -> FoundHolodule {
    let holodule = document::holodule(document).ok();
    let is_exact = holodule.as_ref().is_some_and(|holodule| is_whole(holodule, document));
    FoundHolodule { holodule, is_exact }
}

/// Whether `document` has nothing but `holodule` and the `_id`.
fn is_whole(holodule: &Holodule, document: &RawDocument) -> bool {
    let (Ok(written), Ok(mut stored)) =
        (document::changes(&Holodule::default(), holodule), Document::try_from(document))
    else {
        return false;
    };
    stored.remove("_id");
    stored.len() == written.len() && stored.iter().all(|(name, value)| written.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{Bson, DateTime};

    use super::*;

    #[test]
    fn a_document_with_other_fields_or_types_is_not_exact() {
        let is_exact = |document: &Document| found(&RawDocumentBuf::try_from(document).unwrap()).is_exact;
        let whole =
            doc! { "_id": ObjectId::new(), "title": "t", "tags": ["a", 1], "published_at": DateTime::from_millis(1) };
        assert!(is_exact(&whole));
        for (name, value) in
            [("further", Bson::Int32(1)), ("name", Bson::Null), ("channel_id", Bson::Null), ("title", Bson::Int32(1))]
        {
            let mut other = whole.clone();
            other.insert(name, value);
            assert!(!is_exact(&other), "{name}");
        }
    }
}
