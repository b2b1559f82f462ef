//! Schedules: the collection `schedules`, which other programs write, and the holodules in the same form.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::users::text;
use super::{Mongo, any_member, document};
use crate::model::{Day, Holodule, SCHEDULES_LIMIT, Schedule, ScheduleQuery, Selection, WallClock};
use crate::store::StoreError;

/// Holodules that are looked up in `schedules` together.
const CHUNK: usize = 500;

impl Mongo {
    pub(in crate::store) async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<Schedule>, StoreError> {
        self.within(async {
            let mut found = self.of_schedules(query).await?;
            found.extend(self.of_holodules(query).await?);
            // Stable, so that ties remain in the order of the indexes.
            found.sort_by(|a, b| b.streaming_at.cmp(&a.streaming_at));
            found.truncate(SCHEDULES_LIMIT);
            Ok(found)
        })
        .await
    }

    pub(in crate::store) async fn schedule(&self, id: &str) -> Result<Option<Schedule>, StoreError> {
        let mut ids = vec![Bson::from(id)];
        ids.extend(ObjectId::parse_str(id).ok().map(Bson::from));
        ids.extend(id.parse::<i64>().ok().map(Bson::from));
        let filter = doc! { "_id": { "$in": ids } };
        self.within(async {
            for collection in [&self.schedules, &self.holodules] {
                let find = collection.find_one(filter.clone()).selection_criteria(any_member());
                let Some(found) = find.max_time(self.timeout).await? else { continue };
                if collection.name() == super::SCHEDULES {
                    return Ok(Some(schedule(&found)));
                }
                return Ok(document::holodule(&found)
                    .ok()
                    .map(|holodule| Schedule::of(document::shown_id(&found), &holodule)));
            }
            Ok(None)
        })
        .await
    }

    /// The selected documents of `schedules`, at most [`SCHEDULES_LIMIT`].
    async fn of_schedules(&self, query: &ScheduleQuery) -> mongodb::error::Result<Vec<Schedule>> {
        let mut filter = doc! { "streaming_at": dates(query) };
        if !query.codes.is_empty() {
            filter.insert("code", doc! { "$in": query.codes.iter().collect::<Vec<_>>() });
        }
        let find = self.schedules.find(filter).sort(doc! { "streaming_at": -1, "_id": -1 });
        let mut cursor = find.selection_criteria(any_member()).max_time(self.timeout).await?;
        let mut found = Vec::new();
        while found.len() < SCHEDULES_LIMIT
            && let Some(document) = cursor.try_next().await?
        {
            found.push(schedule(&document));
            found.pop_if(|schedule| schedule.streaming_at.is_none() || !query.matches(schedule));
        }
        Ok(found)
    }

    /// The selected holodules whose video no document of `schedules` with a readable start has, at most
    /// [`SCHEDULES_LIMIT`]. Whether `query` selects that document does not matter: it is the stream of the video, and
    /// is in the lists to which it belongs.
    async fn of_holodules(&self, query: &ScheduleQuery) -> mongodb::error::Result<Vec<Schedule>> {
        let codes = Some(&query.codes).filter(|codes| !codes.is_empty()).cloned();
        let selection = Selection { codes, ..Selection::default() };
        let mut cursor = self.latest_first(&selection, &query.datetimes()).await?;
        let mut found = Vec::new();
        let mut ended = false;
        while !ended && found.len() < SCHEDULES_LIMIT {
            let mut chunk: Vec<Schedule> = Vec::new();
            while !ended && chunk.len() < CHUNK {
                match cursor.try_next().await? {
                    Some(document) => chunk.extend(of_holodule(&document).filter(|schedule| query.matches(schedule))),
                    None => ended = true,
                }
            }
            let replaced = self.videos_in_schedules(&chunk).await?;
            let is_left = |schedule: &Schedule| !schedule.video_id.as_ref().is_some_and(|id| replaced.contains(id));
            found.extend(chunk.into_iter().filter(is_left));
        }
        Ok(found)
    }

    async fn videos_in_schedules(&self, schedules: &[Schedule]) -> mongodb::error::Result<HashSet<String>> {
        let ids = schedules.iter().filter_map(|schedule| schedule.video_id.as_deref()).filter(|id| !id.is_empty());
        let ids: Vec<&str> = ids.collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        // The range of all days selects dates only, and of these the ones that `schedule` can read.
        let readable = doc! { "video_id": { "$in": ids }, "streaming_at": dates(&ScheduleQuery::default()) };
        let find = self.schedules.find(readable).projection(doc! { "video_id": 1, "_id": 0 });
        let cursor = find.selection_criteria(any_member()).max_time(self.timeout).await?;
        let found: Vec<RawDocumentBuf> = cursor.try_collect().await?;
        Ok(found.iter().filter_map(|found| text(found, "video_id").map(str::to_owned)).collect())
    }
}

/// The range of `streaming_at`. Without days, it is that of all years that have a text form.
fn dates(query: &ScheduleQuery) -> Document {
    const FIRST: &str = "00000101";
    const LAST: &str = "99991231";
    const DAY_MILLIS: i64 = 24 * 3600 * 1000;
    let midnight =
        |day: Option<Day>, otherwise: &str| day.or_else(|| Day::parse(otherwise).ok()).map_or(0, Day::utc_millis);
    let (start, last) = (midnight(query.from, FIRST), midnight(query.to, LAST));
    let end = last.saturating_add(DAY_MILLIS);
    doc! { "$gte": DateTime::from_millis(start), "$lt": DateTime::from_millis(end) }
}

/// `None` if it cannot be read or has no time.
fn of_holodule(document: &RawDocument) -> Option<Schedule> {
    let holodule: Holodule = document::holodule(document).ok()?;
    let schedule = Schedule::of(document::shown_id(document), &holodule);
    schedule.streaming_at.is_some().then_some(schedule)
}

/// A document of `schedules`. A value of another type is missing.
fn schedule(document: &RawDocument) -> Schedule {
    let owned = |name| text(document, name).map(str::to_owned);
    let time = |name| match document.get(name) {
        Ok(Some(RawBsonRef::DateTime(at))) => WallClock::in_utc(at.timestamp_millis().div_euclid(1000)),
        _ => None,
    };
    let (code, streaming_at) = (owned("code"), time("streaming_at"));
    let tags = document.get_array("tags").into_iter().flatten().filter_map(|tag| match tag {
        Ok(RawBsonRef::String(tag)) => Some(tag.to_owned()),
        _ => None,
    });
    Schedule {
        id: document::shown_id(document),
        key: Schedule::built_key(code.as_deref(), streaming_at),
        code,
        video_id: owned("video_id"),
        streaming_at: streaming_at.map(WallClock::iso),
        name: owned("name"),
        title: owned("title"),
        url: owned("url"),
        description: owned("description"),
        published_at: time("published_at").map(WallClock::iso).or_else(|| owned("published_at")),
        channel_id: owned("channel_id"),
        channel_title: owned("channel_title"),
        tags: tags.collect(),
    }
}
