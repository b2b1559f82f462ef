//! Schedules: the holodules in the form of the author's later service.

use std::time::Instant;

use redb::ReadTransaction;

use super::indexes::HolodulePosition;
use super::{Embedded, holodules};
use crate::hex;
use crate::model::{Holodule, SCHEDULES_LIMIT, Schedule, ScheduleQuery};
use crate::store::StoreError;

impl Embedded {
    pub(in crate::store) async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<Schedule>, StoreError> {
        let query = query.clone();
        let deadline = Instant::now() + self.timeout;
        let found = self.read(move |transaction| select(transaction, &query, deadline)).await?;
        found.ok_or_else(|| StoreError::Unavailable("the read took too long".to_owned()))
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

/// `None` if `deadline` has passed.
fn select(
    transaction: &ReadTransaction,
    query: &ScheduleQuery,
    deadline: Instant,
) -> Result<Option<Vec<Schedule>>, redb::Error> {
    let mut found = Vec::new();
    let within = holodules::each_descending(transaction, query.datetimes(), |position, holodule| {
        let schedule = Schedule::of(id(position, &holodule), &holodule);
        if schedule.streaming_at.is_some() && query.matches(&schedule) {
            found.push(schedule);
        }
        found.len() < SCHEDULES_LIMIT && Instant::now() < deadline
    });
    within?;
    Ok((Instant::now() < deadline).then_some(found))
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
