//! Lists of holodules.
//!
//! One kind of values of the selection, the one with the fewest records, is read from its index; the others are checked
//! for each of its records. Without any, the numbers of records by day give the total.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{ReadOnlyTable, ReadTransaction};

use super::Embedded;
use super::holodules::RECORDS;
use super::indexes::{Extent, HolodulePosition, RecordKey, extent};
use super::plan::{Plan, Source};
use super::scan::{Cursor, Merge, following, with_value};
use crate::model::{PAGE_LIMIT, PageRequest, Position, Selection, Sort};
use crate::store::{Listing, StoreError};

impl Embedded {
    pub(in crate::store) async fn list(
        &self,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Listing, StoreError> {
        let (selection, page) = (selection.clone(), page.clone());
        let caller = Caller::default();
        let is_gone = Arc::clone(&caller.is_gone);
        let listing = self.read(move |transaction| match extent(transaction)? {
            Extent::Everything => list(transaction, &selection, &page, &is_gone).map(Some),
            Extent::Nothing | Extent::UpTo(_) => Ok(None),
        });
        let building = || StoreError::Unavailable("the indexes of lists are being built".to_owned());
        listing.await?.ok_or_else(building)
    }
}

/// Cancels a read, which otherwise continues on its thread, when its caller is dropped.
#[derive(Default)]
struct Caller {
    is_gone: Arc<AtomicBool>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

fn list(
    transaction: &ReadTransaction,
    selection: &Selection,
    page: &PageRequest,
    is_gone: &AtomicBool,
) -> Result<Listing, redb::Error> {
    let plan = Plan::new(transaction, selection)?;
    let records = transaction.open_table(RECORDS)?;
    let after = page.after.as_ref().map(position);
    // One more than the page has shows whether others follow.
    let wanted = page.limit.min(PAGE_LIMIT) + usize::from(page.limit > 0);
    let (mut total, mut found) = (0, Vec::new());
    if plan.is_exact() {
        total = plan.count(&records)?;
        if wanted > 0 {
            let mut following = ordered(&plan, &records, after.as_ref(), page.sort)?;
            while found.len() < wanted
                && let Some(position) = following.next()?
            {
                found.push(position);
            }
        }
    } else {
        let mut all = ordered(&plan, &records, None, page.sort)?;
        while let Some(position) = all.next()? {
            if is_gone.load(Ordering::Relaxed) {
                break;
            }
            if plan.selects(&records, &position)? {
                total += 1;
                if found.len() < wanted && follows(&position, after.as_ref(), page.sort) {
                    found.push(position);
                }
            }
        }
    }
    let has_more = found.len() > page.limit.min(PAGE_LIMIT);
    found.truncate(page.limit.min(PAGE_LIMIT));
    read(&records, total, found, has_more)
}

/// The positions of the source in order, each once, from the one that follows `after`.
fn ordered(
    plan: &Plan<'_>,
    records: &ReadOnlyTable<RecordKey, &'static [u8]>,
    after: Option<&HolodulePosition>,
    sort: Sort,
) -> Result<Merge, redb::Error> {
    let mut groups = Vec::new();
    for range in plan.ranges() {
        let Some(bounds) = following(range, after, sort) else { continue };
        groups.push(match plan.source() {
            Source::Records => vec![Cursor::Records(records.range::<(&str, &str, u64)>(bounds)?)],
            Source::Texts(texts, finder) => {
                vec![Cursor::Texts(texts.range::<(&str, &str, u64)>(bounds)?, Box::new(finder.clone()))]
            }
            Source::Values(index, values) => {
                let cursor = |value| index.range::<(&str, &str, &str, u64)>(with_value(value, bounds));
                let cursors = values.iter().map(|value| cursor(value).map(Cursor::Index));
                cursors.collect::<Result<_, _>>()?
            }
        });
    }
    Ok(Merge::new(groups, sort))
}

/// The records at these positions.
fn read(
    records: &ReadOnlyTable<RecordKey, &'static [u8]>,
    total: u64,
    positions: Vec<HolodulePosition>,
    has_more: bool,
) -> Result<Listing, redb::Error> {
    let mut listing = Listing { total, entries: Vec::with_capacity(positions.len()), ..Listing::default() };
    for (datetime, key, id) in &positions {
        let record = records.get((datetime.as_str(), key.as_str(), *id))?;
        match record.and_then(|record| serde_json::from_slice(record.value()).ok()) {
            Some(holodule) => listing.entries.push(holodule),
            None => listing.unreadable.push(id.to_string()),
        }
    }
    if has_more && let Some((datetime, key, id)) = positions.into_iter().next_back() {
        listing.next = Some(Position { datetime, key, id: id.to_be_bytes().to_vec() });
    }
    Ok(listing)
}

/// The position that a client sent. An id that is not one of this engine is read as some number.
fn position(position: &Position) -> HolodulePosition {
    let mut id = [0; 8];
    for (byte, sent) in id.iter_mut().zip(&position.id) {
        *byte = *sent;
    }
    (position.datetime.clone(), position.key.clone(), u64::from_be_bytes(id))
}

fn follows(position: &HolodulePosition, after: Option<&HolodulePosition>, sort: Sort) -> bool {
    after.is_none_or(|after| match sort {
        Sort::Ascending => position > after,
        Sort::Descending => position < after,
    })
}
