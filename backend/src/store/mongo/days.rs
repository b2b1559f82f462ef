//! Days changed by other processes: from the change stream of a replica set or sharded cluster, or recorded by the
//! backend processes for each other on a standalone server.

use std::ops::Range;

use futures_util::stream::BoxStream;
use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::ReturnDocument;

use super::event::{changes_field, collection};
use super::follow::StreamConfig;
use super::users::text;
use super::{HOLODULES, Mongo, SCHEDULES, STREAMERS};
use crate::model::{DAYS_LIMIT, Day, Days, WallClock};
use crate::store::StoreError;

/// The `_id` of the single document of records: the next number, and the last [`DAYS_LIMIT`] days.
const RECORDS: &str = "notes";

impl Mongo {
    pub(in crate::store) fn day_changes(&self) -> BoxStream<'static, Result<Days, StoreError>> {
        let fallback = "only changes to days by backend processes are detected";
        self.follow(StreamConfig { fallback, pipeline: pipeline().to_vec(), change: days, initial: Days::All })
    }

    pub(in crate::store) async fn record_days(&self, days: &Days) -> Result<Range<i64>, StoreError> {
        let (count, update) = match days {
            Days::Named(days) => {
                let texts: Vec<String> = days.iter().map(Day::to_string).collect();
                (texts.len(), doc! { "$push": { "days": { "$each": texts, "$slice": -limit() } } })
            }
            // A gap longer than the recorded days.
            Days::All => (DAYS_LIMIT + 1, doc! {}),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut update = update;
        update.insert("$inc", doc! { "next": count });
        let record = self.days.find_one_and_update(doc! { "_id": RECORDS }, update).upsert(true);
        let record = record.projection(doc! { "next": 1 }).return_document(ReturnDocument::After);
        let recorded = self.within(async { record.max_time(self.timeout).await }).await?;
        let next = recorded.as_ref().map_or(0, next);
        Ok(next.saturating_sub(count)..next)
    }

    pub(in crate::store) async fn recorded_days(&self, since: Option<i64>) -> Result<(i64, Days), StoreError> {
        let find = self.days.find_one(doc! { "_id": RECORDS });
        let records = self.within(async { find.max_time(self.timeout).await }).await?.unwrap_or_default();
        let next = next(&records);
        Ok((next, since.map_or(Days::All, |since| recorded(&records, next, since))))
    }
}

fn limit() -> i64 {
    i64::try_from(DAYS_LIMIT).unwrap_or(i64::MAX)
}

fn next(records: &Document) -> i64 {
    records.get_i64("next").unwrap_or_default()
}

/// The records from `since` to `next`, if all of them are still there.
fn recorded(records: &Document, next: i64, since: i64) -> Days {
    let Some(count) = next.checked_sub(since).and_then(|count| usize::try_from(count).ok()) else { return Days::All };
    if count == 0 {
        return Days::default();
    }
    let Ok(texts) = records.get_array("days") else { return Days::All };
    let Some(texts) = texts.len().checked_sub(count).and_then(|first| texts.get(first..)) else { return Days::All };
    let day = |text: &Bson| text.as_str().and_then(|text| Day::parse(text).ok());
    texts.iter().map(day).collect::<Option<Days>>().unwrap_or(Days::All)
}

/// Selects changes to holodules and to what lists have besides them, with the fields that show the day.
fn pipeline() -> [Document; 2] {
    [
        doc! { "$match": { "$or": [
            { "operationType": { "$in": ["drop", "rename", "dropDatabase", "invalidate"] } },
            { "ns.coll": { "$in": [HOLODULES, SCHEDULES, STREAMERS] } },
        ] } },
        doc! { "$project": {
            "operationType": 1, "ns": 1, "to": 1, "fullDocument.datetime": 1, "fullDocument.streaming_at": 1,
            "updateDescription.updatedFields.datetime": 1, "updateDescription.removedFields": 1,
        } },
    ]
}

/// The days affected by an event; `None` if it affects no response. Streamers are in all lists, so that they affect all
/// days. Schedules are in no response for a day: the day of one stands for the lists.
fn days(event: &RawDocument) -> Option<Days> {
    let operation = event.get_str("operationType").ok()?;
    let day = || {
        let document = event.get_document("fullDocument").ok()?;
        let day = Day::holding(text(document, "datetime")?)?;
        Some(Days::from_iter([day]))
    };
    let day_of_schedule = || {
        let at = event.get_document("fullDocument").ok()?.get_datetime("streaming_at").ok()?;
        let at = WallClock::in_utc(at.timestamp_millis().div_euclid(1000))?;
        Some(Days::from_iter([at.day()]))
    };
    let affects_all = |name: Option<&str>| matches!(name, Some(HOLODULES | SCHEDULES | STREAMERS));
    match (operation, collection(event, "ns")) {
        ("insert", Some(HOLODULES)) => day(),
        // The event does not contain the previous day.
        ("update", Some(HOLODULES)) if changes_field(event, "datetime").unwrap_or(true) => Some(Days::All),
        // If the document was deleted or moved meanwhile, a later event reports that.
        ("update", Some(HOLODULES)) => day(),
        ("replace" | "delete" | "drop", Some(HOLODULES)) | ("dropDatabase" | "invalidate", _) => Some(Days::All),
        ("insert" | "update" | "replace", Some(SCHEDULES)) => Some(day_of_schedule().unwrap_or(Days::All)),
        ("insert" | "update" | "replace" | "delete" | "drop", Some(SCHEDULES | STREAMERS)) => Some(Days::All),
        ("rename", from) => (affects_all(from) || affects_all(collection(event, "to"))).then_some(Days::All),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn named(days: &[&str]) -> Days {
        days.iter().map(|day| Day::parse(day).unwrap()).collect()
    }

    #[test]
    fn records_are_read_from_the_last_number_or_all() {
        let records = doc! { "next": 10_i64, "days": ["20201209", "20201210", "20201211"] };
        assert_eq!(recorded(&records, 10, 10), Days::default());
        assert_eq!(recorded(&records, 10, 9), named(&["20201211"]));
        assert_eq!(recorded(&records, 10, 7), named(&["20201209", "20201210", "20201211"]));
        for since in [6, 0, 11, i64::MIN, i64::MAX] {
            assert_eq!(recorded(&records, 10, since), Days::All, "{since}");
        }
        assert_eq!(recorded(&doc! {}, 0, 3), Days::All, "the records were removed");
        assert_eq!(recorded(&doc! { "next": 1_i64, "days": ["x"] }, 1, 0), Days::All);
        assert_eq!(recorded(&doc! { "next": 1_i64 }, 1, 0), Days::All);
    }

    #[test]
    fn each_event_maps_to_a_day_or_to_all_days() {
        let event = |operation: &str, document: RawDocumentBuf, update: RawDocumentBuf| {
            rawdoc! { "operationType": operation, "ns": { "db": "d", "coll": HOLODULES },
            "fullDocument": document, "updateDescription": update }
        };
        let document = || rawdoc! { "datetime": "20201209 230000" };
        let (day, none) = (Some(named(&["20201209"])), rawdoc! {});
        let same = rawdoc! { "updatedFields": {}, "removedFields": ["title"] };
        assert_eq!(days(&event("insert", document(), none.clone())), day);
        assert_eq!(days(&event("update", document(), same.clone())), day);
        for moved in [rawdoc! { "updatedFields": { "datetime": "x" } }, rawdoc! { "removedFields": ["x", "datetime"] }]
        {
            assert_eq!(days(&event("update", document(), moved)), Some(Days::All));
        }
        assert_eq!(days(&event("update", none.clone(), same)), None, "deleted meanwhile, which the next event reports");
        assert_eq!(days(&event("replace", document(), none.clone())), Some(Days::All));
        for datetime in [rawdoc! {}, rawdoc! { "datetime": 20_201_209_i64 }, rawdoc! { "datetime": "soon" }] {
            assert_eq!(days(&event("insert", datetime, none.clone())), None, "it is in no response");
        }
        assert_eq!(days(&rawdoc! { "operationType": "delete", "ns": { "coll": HOLODULES } }), Some(Days::All));
        assert_eq!(days(&rawdoc! { "operationType": "delete", "ns": { "coll": "users" } }), None);
    }

    #[test]
    fn streamers_and_schedules_change_lists() {
        let of = |operation: &str, collection: &str, document: RawDocumentBuf| {
            days(&rawdoc! { "operationType": operation, "ns": { "coll": collection }, "fullDocument": document })
        };
        let at = || rawdoc! { "streaming_at": mongodb::bson::DateTime::from_millis(1_607_554_800_000) };
        for operation in ["insert", "update", "replace"] {
            assert_eq!(of(operation, SCHEDULES, at()), Some(named(&["20201209"])), "the stored wall clock");
            assert_eq!(of(operation, SCHEDULES, rawdoc! {}), Some(Days::All));
            assert_eq!(of(operation, STREAMERS, rawdoc! {}), Some(Days::All));
        }
        for collection in [SCHEDULES, STREAMERS] {
            for operation in ["delete", "drop", "rename"] {
                assert_eq!(of(operation, collection, rawdoc! {}), Some(Days::All));
            }
        }
    }

    #[test]
    fn dropping_the_collection_changes_all_days() {
        let of = |operation: &str, collection: &str| {
            days(&rawdoc! { "operationType": operation, "ns": { "coll": collection }, "to": { "coll": "x" } })
        };
        assert_eq!((of("drop", HOLODULES), of("rename", HOLODULES)), (Some(Days::All), Some(Days::All)));
        assert_eq!((of("drop", "users"), of("rename", "users")), (None, None));
        let onto = rawdoc! { "operationType": "rename", "ns": { "coll": "x" }, "to": { "coll": HOLODULES } };
        assert_eq!(days(&onto), Some(Days::All));
        assert_eq!(days(&rawdoc! { "operationType": "dropDatabase", "ns": { "db": "d" } }), Some(Days::All));
        assert_eq!(days(&rawdoc! { "operationType": "invalidate" }), Some(Days::All));
    }
}
