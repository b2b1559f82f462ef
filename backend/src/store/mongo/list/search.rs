//! Searches for a text. No index serves them: the server reads every document of the ranges, and sends those that may
//! contain it ([`Prefilter`]); [`Needle::is_in`] then decides.

use futures_util::TryStreamExt;
use mongodb::bson::{RawDocument, RawDocumentBuf};

use super::super::Mongo;
use super::super::users::text;
use super::prefilter::Prefilter;
use super::{listing, page_filter, ranges_after};
use crate::model::{Needle, PageRequest, Selection, Sort};
use crate::store::{Listing, StoreError};

/// The number of documents after which the search yields to other tasks.
const SLICE: usize = 32;

impl Mongo {
    /// As [`Mongo::list`], with `needle` as the text of the selection.
    pub(super) async fn search(
        &self,
        selection: &Selection,
        needle: &Needle,
        page: &PageRequest,
    ) -> Result<Listing, StoreError> {
        let prefilter = &Prefilter::new(needle);
        let (total, documents) = if page.after.is_none() {
            self.within(self.scan(selection, needle, prefilter, page)).await?
        } else {
            let total = PageRequest { sort: Sort::Ascending, limit: 0, after: None };
            let total = self.within(self.scan(selection, needle, prefilter, &total));
            let page = self.within(self.scan(selection, needle, prefilter, page));
            let ((total, _), (_, documents)) = futures_util::try_join!(total, page)?;
            (total, documents)
        };
        Ok(listing(total, &documents, page))
    }

    /// The number of matching documents and those of the page, with one more if there is one. After a position, it ends
    /// when the page is complete.
    async fn scan(
        &self,
        selection: &Selection,
        needle: &Needle,
        prefilter: &Prefilter,
        page: &PageRequest,
    ) -> mongodb::error::Result<(u64, Vec<RawDocumentBuf>)> {
        let (mut total, mut documents, mut read) = (0_u64, Vec::new(), 0_usize);
        let needed = if page.limit == 0 { 0 } else { page.limit.saturating_add(1) };
        for range in ranges_after(selection, page) {
            let mut filter = page_filter(selection, &range, page);
            if let Some(prefilter) = prefilter.filter() {
                filter.insert("$and", [prefilter]);
            }
            let mut cursor = self.find(selection, filter, page.sort, None).await?;
            while let Some(document) = cursor.try_next().await? {
                read = read.wrapping_add(1);
                if read.is_multiple_of(SLICE) {
                    tokio::task::yield_now().await;
                }
                if !contains(&document, needle, prefilter) {
                    continue;
                }
                total = total.saturating_add(1);
                if documents.len() < needed {
                    documents.push(document);
                } else if page.after.is_some() {
                    return Ok((total, documents));
                }
            }
        }
        Ok((total, documents))
    }
}

fn contains(document: &RawDocument, needle: &Needle, prefilter: &Prefilter) -> bool {
    let mut texts = ["title", "name", "description"].iter().filter_map(|name| text(document, name));
    texts.any(|text| prefilter.accepts(text) && needle.is_in(text))
}
