//! Schedules: the holodules in the form of the author's later service.
//!
//! Those of some codes are read from the index of codes, and others from the latest record on.

use std::time::Instant;

use redb::ReadTransaction;

use super::abandoned::Abandoned;
use super::holodules::RECORDS;
use super::indexes::{Extent, HolodulePosition, extent};
use super::list::ordered;
use super::plan::Plan;
use super::{Embedded, holodules};
use crate::hex;
use crate::model::{Holodule, SCHEDULES_LIMIT, Schedule, ScheduleQuery, Selection, Sort};
use crate::store::StoreError;

impl Embedded {
    pub(in crate::store) async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<Schedule>, StoreError> {
        let query = query.clone();
        let deadline = Instant::now() + self.timeout;
        let select = move |transaction: &_, abandoned: &_| select(transaction, &query, deadline, abandoned);
        self.read_for_caller(select).await?.ok_or_else(|| StoreError::Unavailable("the read took too long".to_owned()))
    }

    pub(in crate::store) async fn schedule(&self, id: &str) -> Result<Option<Schedule>, StoreError> {
        let id = id.to_owned();
        self.read(move |transaction| {
            let found = match position(&id) {
                Some(position) => holodules::at(transaction, &position)?,
                None => holodules::with_video(transaction, &id)?,
            };
            Ok(found.map(|holodule| Schedule::of(id, &holodule)))
        })
        .await
    }
}

/// `None` if `deadline` has passed. If the read is abandoned, it ends early.
fn select(
    transaction: &ReadTransaction,
    query: &ScheduleQuery,
    deadline: Instant,
    abandoned: &Abandoned,
) -> Result<Option<Vec<Schedule>>, redb::Error> {
    let mut found = Vec::new();
    let each = |position: (&str, &str, u64), holodule: Holodule| {
        let schedule = Schedule::of(id(position, &holodule), &holodule);
        if schedule.streaming_at.is_some() && query.matches(&schedule) {
            found.push(schedule);
        }
        found.len() < SCHEDULES_LIMIT && Instant::now() < deadline && !abandoned.get()
    };
    let has_index = !query.codes.is_empty() && matches!(extent(transaction)?, Extent::Everything);
    if has_index {
        each_of_codes(transaction, query, abandoned, each)?;
    } else {
        holodules::each_descending(transaction, query.datetimes(), each)?;
    }
    Ok((Instant::now() < deadline).then_some(found))
}

/// As [`holodules::each_descending`], of the records with the codes of `query`.
fn each_of_codes(
    transaction: &ReadTransaction,
    query: &ScheduleQuery,
    abandoned: &Abandoned,
    mut each: impl FnMut((&str, &str, u64), Holodule) -> bool,
) -> Result<(), redb::Error> {
    let (ranges, codes) = (vec![query.datetimes()], Some(query.codes.clone()));
    let selection = Selection { ranges, codes, ..Selection::default() };
    let plan = Plan::new(transaction, &selection, abandoned)?;
    let records = transaction.open_table(RECORDS)?;
    let mut positions = ordered(&plan, &records, None, Sort::Descending)?;
    while let Some((datetime, key, number)) = positions.next()? {
        let position = (datetime.as_str(), key.as_str(), number);
        let record = records.get(position)?;
        if let Some(holodule) = record.and_then(|record| serde_json::from_slice(record.value()).ok())
            && !each(position, holodule)
        {
            break;
        }
    }
    Ok(())
}

/// The id of a holodule: that of its video, or else its position in hexadecimal after a dot, which no video's id has.
fn id((datetime, key, number): (&str, &str, u64), holodule: &Holodule) -> String {
    match holodule.video_id.as_deref() {
        Some(video_id) if !video_id.is_empty() => video_id.to_owned(),
        _ => {
            let texts = [datetime, key].map(|text| hex::encode(text.as_bytes()));
            format!("{number}.{}.{}", texts[0], texts[1])
        }
    }
}

fn position(id: &str) -> Option<HolodulePosition> {
    let (number, texts) = id.split_once('.')?;
    let (datetime, key) = texts.split_once('.')?;
    let text = |hexadecimal| String::from_utf8(hex::decode(hexadecimal)?).ok();
    Some((text(datetime)?, text(key)?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::file::StoreFile;
    use super::*;
    use crate::model::ValidHolodule;
    use crate::store::changed::TouchedDays;

    fn holodule(key: &str, datetime: &str) -> Holodule {
        Holodule { key: Some(key.into()), datetime: Some(datetime.into()), ..Holodule::default() }
    }

    /// A file with indexed holodules of two codes, and one that is in no index.
    fn file(folder: &tempfile::TempDir) -> StoreFile {
        let indexed = [
            ("HL0501_20201209_230000", "20201209 230000"),
            ("HL0502_20201210_230000", "20201210 230000"),
            ("HL0501_20201211_230000", "20201211 230000"),
        ];
        let indexed = indexed.map(|(key, datetime)| ValidHolodule::new(holodule(key, datetime)).unwrap());
        let hidden = holodule("HL0501_20201210_000000", "20201210 000000");
        let file = StoreFile::open(&folder.path().join("store.redb"), false).unwrap();
        let touched = TouchedDays::none(&std::sync::Arc::default());
        let written = file.write(|transaction| {
            holodules::upsert(transaction, &indexed, &touched)?;
            let record = serde_json::to_vec(&hidden).unwrap();
            let position = ("20201210 000000", "HL0501_20201210_000000", 99);
            transaction.open_table(RECORDS)?.insert(position, record.as_slice())?;
            Ok(())
        });
        written.unwrap();
        file
    }

    fn keys(file: &StoreFile, codes: &[&str], abandoned: &Abandoned) -> Vec<String> {
        let codes = codes.iter().map(|code| (*code).to_owned()).collect();
        let query = ScheduleQuery { codes, ..ScheduleQuery::default() };
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = file.read(|transaction| select(transaction, &query, deadline, abandoned)).unwrap().unwrap();
        found.into_iter().map(|schedule| schedule.key).collect()
    }

    #[test]
    fn schedules_of_codes_are_read_from_their_index() {
        let folder = tempfile::tempdir().unwrap();
        let (file, abandoned) = (file(&folder), Abandoned::default());
        assert_eq!(keys(&file, &[], &abandoned).len(), 4);
        // Without reading the others, of which one is not in the index.
        assert_eq!(keys(&file, &["HL0501"], &abandoned), ["HL0501_20201211_230000", "HL0501_20201209_230000"]);
        let both = ["HL0501_20201211_230000", "HL0502_20201210_230000", "HL0501_20201209_230000"];
        assert_eq!(keys(&file, &["HL0501", "HL0502", "zz"], &abandoned), both);
        assert_eq!(keys(&file, &["zz"], &abandoned), [""; 0]);
    }

    #[test]
    fn an_abandoned_read_ends_early() {
        let folder = tempfile::tempdir().unwrap();
        let (file, abandoned) = (file(&folder), Abandoned::default());
        abandoned.set();
        assert!(keys(&file, &[], &abandoned).len() <= 1);
        assert!(keys(&file, &["HL0501"], &abandoned).len() <= 1);
    }
}
