//! Searches for a text. No index serves them.
//!
//! They are made in the texts of whole days in memory ([`texts`](super::super::texts)), from which come the total and
//! the ids of the page. If that is not possible, as for a day that is too large, the server reads every document of the
//! ranges, and sends those that may contain the text ([`Prefilter`]); [`Needle::is_in`] then decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use mongodb::bson::{Bson, RawDocument, RawDocumentBuf, doc};

use super::super::texts::{CachedDay, DayTexts, Query, UnknownPosition};
use super::super::users::text;
use super::super::{Mongo, any_member, document};
use super::position::position;
use super::prefilter::Prefilter;
use super::{listing, page_filter, ranges_after};
use crate::model::{Day, Needle, PageRequest, Position, Selection, Sort};
use crate::store::{Listing, StoreError};

/// The number of documents after which the search yields to other tasks.
const SLICE: usize = 32;
/// The number of days that a search reads at the same time.
const READERS: usize = 4;

/// What was found in the days in memory.
#[derive(Default)]
struct Found {
    /// The documents in the ranges.
    counted: u64,
    /// The selected ones.
    total: u64,
    /// Those of the page, and one more if there is one.
    positions: Vec<Position>,
}

impl Mongo {
    /// As [`Mongo::list`], with `needle` as the text of the selection.
    pub(super) async fn search(
        &self,
        selection: &Selection,
        needle: &Needle,
        page: &PageRequest,
    ) -> Result<Listing, StoreError> {
        if let Some(days) = self.texts.days_of(selection) {
            let (since, version) = (Instant::now(), self.texts.version());
            // Again with days that are read now, if those in memory have changed without notice.
            for _ in 0..2 {
                match self.search_days(selection, page, &days).await {
                    Ok(Searched::Listing(listing)) => return Ok(listing),
                    Ok(Searched::Unsuitable) => return self.search_on_server(selection, needle, page).await,
                    Ok(Searched::Changed) => self.texts.discard(&days),
                    Err(error) => {
                        tracing::debug!(%error, "the texts of days cannot be read");
                        return self.search_on_server(selection, needle, page).await;
                    }
                }
            }
            // There are documents between the days, whose `datetime` is not of a day.
            self.texts.mark_unsuitable(&days, since, version);
        }
        self.search_on_server(selection, needle, page).await
    }

    /// The list of a selection by codes, if its days are in memory and some of their documents have no `code`: the
    /// server would compare the keys of all of those.
    pub(super) async fn list_in_memory(
        &self,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Option<Listing>, StoreError> {
        if selection.codes.is_none() {
            return Ok(None);
        }
        let Some(days) = self.texts.days_of(selection) else { return Ok(None) };
        let Some(texts) = self.texts.all(&days).filter(|days| days.iter().any(|day| day.lacks_codes())) else {
            return Ok(None);
        };
        let query = Query::new(selection);
        let mut found = Found::default();
        let mut in_order: Vec<&Arc<DayTexts>> = texts.iter().collect();
        if page.sort == Sort::Descending {
            in_order.reverse();
        }
        for day in in_order {
            if found.add(day, &query, selection, page).is_err() {
                return Ok(None);
            }
        }
        match self.read_found(selection, page, async { Ok(Some(found)) }).await? {
            Searched::Listing(listing) => Ok(Some(listing)),
            Searched::Unsuitable => Ok(None),
            Searched::Changed => {
                self.texts.discard(&days);
                Ok(None)
            }
        }
    }

    async fn search_days(
        &self,
        selection: &Selection,
        page: &PageRequest,
        days: &[Day],
    ) -> Result<Searched, StoreError> {
        self.read_found(selection, page, self.find_in_days(selection, page, days)).await
    }

    /// `None` if a day is not suitable.
    async fn find_in_days(
        &self,
        selection: &Selection,
        page: &PageRequest,
        days: &[Day],
    ) -> Result<Option<Found>, StoreError> {
        let mut in_order = days.to_vec();
        if page.sort == Sort::Descending {
            in_order.reverse();
        }
        let query = Query::new(selection);
        let mut found = Found::default();
        let mut texts = stream::iter(in_order).map(|day| self.texts_of(day)).buffered(READERS);
        while let Some(day) = texts.try_next().await? {
            let CachedDay::Texts(day) = day else { return Ok(None) };
            if found.add(&day, &query, selection, page).is_err() {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
        Ok(Some(found))
    }

    /// Reads the documents of a page that was found in memory, and the number of documents in the ranges.
    async fn read_found(
        &self,
        selection: &Selection,
        page: &PageRequest,
        find: impl Future<Output = Result<Option<Found>, StoreError>>,
    ) -> Result<Searched, StoreError> {
        let ranges = Selection { ranges: selection.ranges.clone(), ..Selection::default() };
        let read = async {
            let Some(found) = find.await? else { return Ok(None) };
            let documents = self.documents_at(&found.positions, selection).await?;
            Ok(Some((found, documents)))
        };
        let (counted, read) = futures_util::try_join!(self.total(&ranges), read)?;
        Ok(match read {
            None => Searched::Unsuitable,
            Some((found, Some(documents))) if found.counted == counted => {
                Searched::Listing(listing(found.total, &documents, page))
            }
            Some(_) => Searched::Changed,
        })
    }

    /// The documents at these positions, in the same order; `None` if one has changed.
    async fn documents_at(
        &self,
        positions: &[Position],
        selection: &Selection,
    ) -> Result<Option<Vec<RawDocumentBuf>>, StoreError> {
        if positions.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let id = |position: &Position| {
            let id = RawDocumentBuf::from_bytes(position.id.clone()).ok()?;
            document::id(&id)
        };
        let ids: Option<Vec<Bson>> = positions.iter().map(id).collect();
        let Some(ids) = ids else { return Ok(None) };
        let batch = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let find = self.holodules.find(doc! { "_id": { "$in": ids } }).batch_size(batch);
        let find = find.selection_criteria(any_member()).max_time(self.timeout);
        let found: Vec<RawDocumentBuf> = self.within(async { find.await?.try_collect().await }).await?;
        let mut by_position: HashMap<Position, RawDocumentBuf> =
            found.into_iter().filter_map(|document| Some((position(&document)?, document))).collect();
        let is_same = |document: &RawDocumentBuf| selection.text.as_ref().is_none_or(|text| is_in(document, text));
        Ok(positions.iter().map(|position| by_position.remove(position).filter(is_same)).collect())
    }

    async fn search_on_server(
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

/// The result of a search in memory.
enum Searched {
    Listing(Listing),
    /// A day or the position cannot be represented.
    Unsuitable,
    /// The documents are not those in memory.
    Changed,
}

impl Found {
    /// Adds what the next day has, in the order of the page.
    fn add(
        &mut self,
        day: &DayTexts,
        query: &Query<'_>,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<(), UnknownPosition> {
        self.counted += day.count(&selection.ranges);
        let mut numbers = day.find(query);
        self.total += numbers.len() as u64;
        if page.sort == Sort::Descending {
            numbers.reverse();
        }
        let needed = if page.limit == 0 { 0 } else { page.limit.saturating_add(1) };
        for number in numbers {
            if self.positions.len() >= needed {
                break;
            }
            if let Some(after) = &page.after
                && !day.follows(number, after, page.sort)?
            {
                continue;
            }
            let datetime = day.datetime(number);
            let key = RawDocument::from_bytes(day.id(number)).ok().and_then(|id| text(id, "key")).unwrap_or_default();
            self.positions.push(Position {
                datetime: datetime.to_owned(),
                key: key.to_owned(),
                id: day.id(number).to_vec(),
            });
        }
        Ok(())
    }
}

fn contains(document: &RawDocument, needle: &Needle, prefilter: &Prefilter) -> bool {
    texts_of(document).any(|text| prefilter.accepts(text) && needle.is_in(text))
}

fn is_in(document: &RawDocument, needle: &Needle) -> bool {
    texts_of(document).any(|text| needle.is_in(text))
}

fn texts_of(document: &RawDocument) -> impl Iterator<Item = &str> {
    ["title", "name", "description"].iter().filter_map(|name| text(document, name))
}
