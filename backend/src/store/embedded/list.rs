//! Lists of holodules.
//!
//! One kind of values of the selection, the one with the fewest records, is read from its index; the others are checked
//! for each of its records. Without any, the numbers of records by day give the total.

use redb::{ReadOnlyTable, ReadTransaction};

use super::Embedded;
use super::abandoned::Abandoned;
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
        let listing = self.read_for_caller(move |transaction, abandoned| match extent(transaction)? {
            Extent::Everything => list(transaction, &selection, &page, abandoned).map(Some),
            Extent::Nothing | Extent::UpTo(_) => Ok(None),
        });
        let building = || StoreError::Unavailable("the indexes of lists are being built".to_owned());
        listing.await?.ok_or_else(building)
    }
}

fn list(
    transaction: &ReadTransaction,
    selection: &Selection,
    page: &PageRequest,
    abandoned: &Abandoned,
) -> Result<Listing, redb::Error> {
    let plan = Plan::new(transaction, selection, abandoned)?;
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
            if abandoned.get() {
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
pub(super) fn ordered(
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
    Ok(Merge::new(groups, sort, plan.abandoned().clone()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::file::StoreFile;
    use super::super::holodules;
    use super::*;
    use crate::model::{Holodule, Needle, ValidHolodule};
    use crate::store::changed::TouchedDays;

    /// A file with ten holodules of a day, whose code, name, tags and title are the same.
    fn file(folder: &tempfile::TempDir) -> StoreFile {
        let holodule = |number: u8| Holodule {
            key: Some(format!("HL0501_20201209_12000{number}")),
            code: Some("HL0501".into()),
            datetime: Some(format!("20201209 12000{number}")),
            name: Some("n".into()),
            title: Some("apex".into()),
            tags: Some(serde_json::json!(["a", "b"])),
            ..Holodule::default()
        };
        let entries: Vec<_> = (0..10).map(|number| ValidHolodule::new(holodule(number)).unwrap()).collect();
        let file = StoreFile::open(&folder.path().join("store.redb"), false).unwrap();
        let touched = TouchedDays::none(&std::sync::Arc::default());
        file.write(|transaction| holodules::upsert(transaction, &entries, &touched)).unwrap();
        file
    }

    #[test]
    fn a_read_whose_caller_is_gone_ends_early() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let set = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<_>>());
        let ranges = vec!["20201209 120000".to_owned().."20201209 130000".to_owned()];
        let all = Selection { ranges, ..Selection::default() };
        let page = PageRequest { sort: Sort::Ascending, limit: 5, after: None };
        for selection in [
            all.clone(),
            Selection { codes: set(&["HL0501"]), ..all.clone() },
            Selection { tags: set(&["a", "b"]), ..all.clone() },
            Selection { codes: set(&["HL0501"]), tags: set(&["a"]), ..all.clone() },
            Selection { text: Some(Needle::parse("apex").unwrap()), ..all.clone() },
            Selection { names: set(&["n"]), text: Some(Needle::parse("apex").unwrap()), ..all.clone() },
        ] {
            for (is_gone, expected) in [(false, (10, 5)), (true, (0, 0))] {
                let abandoned = Abandoned::default();
                if is_gone {
                    abandoned.set();
                }
                let listing = file.read(|transaction| list(transaction, &selection, &page, &abandoned)).unwrap();
                assert_eq!((listing.total, listing.entries.len()), expected, "{selection:?}");
            }
        }
    }

    #[test]
    fn a_search_that_finds_nothing_ends_early_too() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = vec!["20201209 ".to_owned().."20201209!".to_owned()];
        let text = Some(Needle::parse("apex").unwrap());
        let selection = Selection { ranges, text, ..Selection::default() };
        let abandoned = Abandoned::default();
        let found = file(&folder).read(|transaction| {
            let plan = Plan::new(transaction, &selection, &abandoned)?;
            let mut all = ordered(&plan, &transaction.open_table(RECORDS)?, None, Sort::Ascending)?;
            let first = all.next()?;
            abandoned.set();
            all.next()?;
            Ok((first.is_some(), all.next()?))
        });
        assert_eq!(found.unwrap(), (true, None));
    }
}
