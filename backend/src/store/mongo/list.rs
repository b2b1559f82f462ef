//! Lists of holodules.
//!
//! A page and the total are two reads, at the same time. For each range of a selection, one index has the equality of
//! a filter, then the order, so that the server neither sorts nor reads documents outside the page, and counts index
//! entries. With several filters, the server chooses the index, and compares the rest in the documents.
//!
//! Documents without `code` have it in the key only, which no index has in the order of the days: with codes, each of
//! their index entries in the ranges is compared, unless a search has left the days in memory.
//!
//! The total is the number of documents that the server selects by their stored values. A document that cannot be read
//! because of a field outside the selection is counted, and reported as unreadable in its page.

mod position;
mod prefilter;
mod search;

use std::collections::BTreeSet;
use std::ops::Range;

use futures_util::TryStreamExt;
use mongodb::Cursor;
use mongodb::action::Action as _;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::Hint;

use self::position::{before_or_at, position};
use super::{Mongo, any_member, document};
use crate::model::{Code, PageRequest, Position, Selection, Sort};
use crate::store::{Listing, StoreError};

/// The server's code for a hint at an index that does not exist.
const BAD_VALUE: i32 = 2;

impl Mongo {
    pub(in crate::store) async fn list(
        &self,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Listing, StoreError> {
        if let Some(needle) = &selection.text {
            // In a box, as their states are large.
            return Box::pin(self.search(selection, needle, page)).await;
        }
        if let Some(listing) = Box::pin(self.list_in_memory(selection, page)).await? {
            return Ok(listing);
        }
        let (total, documents) = futures_util::try_join!(self.total(selection), self.page(selection, page))?;
        Ok(listing(total, &documents, page))
    }

    async fn total(&self, selection: &Selection) -> Result<u64, StoreError> {
        let mut total = 0_u64;
        for range in &selection.ranges {
            let count = |hint| {
                let count = self.holodules.count_documents(filter(selection, range, Document::new()));
                count.optional(hint, |count, hint| count.hint(hint)).selection_criteria(any_member())
            };
            let count = async {
                match count(hint(selection)).max_time(self.timeout).await {
                    Err(error) if is_unknown_index(&error) => count(None).max_time(self.timeout).await,
                    result => result,
                }
            };
            total = total.saturating_add(self.within(count).await?);
        }
        Ok(total)
    }

    /// The documents of a page, and one more if there is one.
    async fn page(&self, selection: &Selection, page: &PageRequest) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let mut documents = Vec::new();
        if page.limit == 0 {
            return Ok(documents);
        }
        for range in ranges_after(selection, page) {
            let missing = (page.limit + 1).saturating_sub(documents.len());
            if missing == 0 {
                break;
            }
            let found = async {
                let cursor =
                    self.find(selection, page_filter(selection, &range, page), page.sort, Some(missing)).await?;
                cursor.try_collect::<Vec<_>>().await
            };
            documents.extend(self.within(found).await?);
        }
        Ok(documents)
    }

    /// Finds documents in order, by the index for the selection if it exists.
    async fn find(
        &self,
        selection: &Selection,
        filter: Document,
        sort: Sort,
        limit: Option<usize>,
    ) -> mongodb::error::Result<Cursor<RawDocumentBuf>> {
        let find = |hint| {
            let find = self.holodules.find(filter.clone()).sort(order(sort)).selection_criteria(any_member());
            let find = find.optional(hint, |find, hint| find.hint(hint)).max_time(self.timeout);
            find.optional(limit, |find, limit| {
                // One round trip.
                let batch = u32::try_from(limit).unwrap_or(u32::MAX);
                find.limit(i64::try_from(limit).unwrap_or(i64::MAX)).batch_size(batch)
            })
        };
        match find(hint(selection)).await {
            Err(error) if is_unknown_index(&error) => find(None).await,
            result => result,
        }
    }
}

impl Mongo {
    /// The documents of a range of a selection without a text, latest first.
    pub(super) async fn latest_first(
        &self,
        selection: &Selection,
        range: &Range<String>,
    ) -> mongodb::error::Result<Cursor<RawDocumentBuf>> {
        self.find(selection, filter(selection, range, Document::new()), Sort::Descending, None).await
    }
}

/// Whether an index has not been created yet.
fn is_unknown_index(error: &mongodb::error::Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == BAD_VALUE && error.message.contains("hint"))
}

/// The index for a selection by one kind of values; `None` if the server must choose.
fn hint(selection: &Selection) -> Option<Hint> {
    let first = match (&selection.codes, &selection.names, &selection.tags) {
        (None, None, None) => return Some(Hint::Keys(doc! { "datetime": 1, "key": 1, "_id": 1 })),
        (Some(_), None, None) => "code",
        (None, Some(_), None) => "name",
        (None, None, Some(_)) => "tags",
        _ => return None,
    };
    Some(Hint::Keys(doc! { first: 1, "datetime": 1, "key": 1, "_id": 1 }))
}

/// The response of these documents, which may be one more than a page has.
fn listing(total: u64, documents: &[RawDocumentBuf], page: &PageRequest) -> Listing {
    let shown = documents.get(..page.limit).unwrap_or(documents);
    let mut listing = Listing { total, ..Listing::default() };
    for found in shown {
        match document::holodule(found) {
            Ok(holodule) => listing.entries.push(holodule),
            Err(document::UnreadableDocument(id)) => listing.unreadable.push(id),
        }
    }
    if documents.len() > shown.len() {
        listing.next = shown.iter().rev().find_map(|document| position(document));
    }
    listing
}

/// The ranges of a page in its order. Those before its position are left out.
fn ranges_after(selection: &Selection, page: &PageRequest) -> Vec<Range<String>> {
    let mut ranges: Vec<Range<String>> = selection.ranges.clone();
    if page.sort == Sort::Descending {
        ranges.reverse();
    }
    let Some(Position { datetime, .. }) = &page.after else { return ranges };
    for range in &mut ranges {
        match page.sort {
            Sort::Ascending if range.start < *datetime => range.start.clone_from(datetime),
            // The text after it in bytewise order.
            Sort::Descending if range.end > *datetime => range.end = format!("{datetime}\0"),
            Sort::Ascending | Sort::Descending => {}
        }
    }
    ranges.retain(|range| range.start < range.end);
    ranges
}

fn order(sort: Sort) -> Document {
    let direction = match sort {
        Sort::Ascending => 1,
        Sort::Descending => -1,
    };
    doc! { "datetime": direction, "key": direction, "_id": direction }
}

fn page_filter(selection: &Selection, range: &Range<String>, page: &PageRequest) -> Document {
    let after = page.after.as_ref();
    filter(selection, range, after.map_or_else(Document::new, |after| doc! { "$nor": before_or_at(after, page.sort) }))
}

/// Selects the documents of a range that match `more`, without the text.
fn filter(selection: &Selection, range: &Range<String>, more: Document) -> Document {
    let mut within = doc! { "datetime": { "$gte": &range.start, "$lt": &range.end } };
    within.extend(more);
    let mut filter = match &selection.codes {
        None => within,
        // Everything is part of each alternative: the server merges alternatives without a sort only if nothing else is
        // beside them.
        Some(codes) => doc! { "$or": alternatives(codes, &within) },
    };
    if let Some(names) = &selection.names {
        filter.insert("name", one_of(names));
    }
    if let Some(tags) = &selection.tags {
        filter.insert("tags", one_of(tags));
    }
    filter
}

/// Selects the documents with these codes, and those without one that have it in the key: as
/// [`Holodule::effective_code`](crate::model::Holodule::effective_code).
fn alternatives(codes: &BTreeSet<String>, within: &Document) -> Vec<Document> {
    let mut with_code = within.clone();
    with_code.insert("code", one_of(codes.iter().filter(|code| !code.is_empty())));
    let mut alternatives = vec![with_code];
    // A valid code has no character with a meaning in a pattern.
    let valid: Vec<&str> = codes.iter().map(String::as_str).filter(|code| Code::parse(code).is_ok()).collect();
    if !valid.is_empty() {
        let mut without_code = within.clone();
        without_code.insert("code", doc! { "$in": [Bson::Null, Bson::from("")] });
        without_code.insert("key", doc! { "$regex": format!("^(?:{})_", valid.join("|")) });
        alternatives.push(without_code);
    }
    alternatives
}

fn one_of<'a>(values: impl IntoIterator<Item = &'a String>) -> Document {
    doc! { "$in": values.into_iter().map(Bson::from).collect::<Vec<_>>() }
}
