//! The operations on holodules, and the days that change.

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};

use super::{DayListing, Engine, Exported, Store, StoreError, Upserted, engine};
use crate::model::{Day, Days, Identifier, ValidHolodule};

impl Store {
    /// The holodules of one day of Japan's wall clock.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        engine!(self.day(day))
    }

    /// A number that grows before a change is acknowledged or told of: what was read before that
    /// was read at another version. It says nothing of what other hands change unheard.
    pub fn version(&self) -> u64 {
        self.changed.version()
    }

    /// Stores `entries` in their order, each found by its [`Identifier`]; a later
    /// one with the same identifier wins. What is stored keeps the fields that an entry
    /// does not supply ([`ValidHolodule::merged_into`]).
    ///
    /// Several videos may share a key. An entry without a video is stored over the one of
    /// its key that has no video either, else over the oldest.
    ///
    /// When this returns, what it tells of is durable; it runs to its end even where its caller
    /// goes away. Where it fails, the embedded store
    /// holds none of the entries; MongoDB may hold some, and the call may be repeated.
    ///
    /// # Errors
    /// Where an entry could not be written, or it is not known whether it was.
    pub async fn upsert(&self, entries: Vec<ValidHolodule>) -> Result<Vec<Upserted>, StoreError> {
        engine!(self.upsert(entries))
    }

    /// Removes one holodule, and tells whether it was there. By key it is the one that
    /// [`Store::upsert`] would find. It runs to its end even where its caller goes away.
    ///
    /// # Errors
    /// Where it is not known whether the holodule is gone.
    pub async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        engine!(self.delete_holodule(id))
    }

    /// The days that [`Store::upsert`] and [`Store::delete_holodule`] of this process have changed
    /// since the last call, also those where it is not known whether they did. Waits until there
    /// are some; for one caller at a time.
    pub async fn changed_days(&self) -> Days {
        self.changed.take().await
    }

    /// The days that somebody has changed in the engine, where it tells of them: from now on, and
    /// at first all of them. For errors and the end it is as for [`Store::changes`].
    pub fn day_changes(&self) -> BoxStream<'static, Result<Days, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => {
                let changed = Arc::clone(&self.changed);
                engine.day_changes().inspect(move |_| changed.renew()).boxed()
            }
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Notes days for the other processes over the same engine, where it does not tell of changes
    /// by itself. The numbers of the notes, counted through all processes.
    ///
    /// # Errors
    /// Where it is not known whether they are noted; that may be repeated.
    pub async fn record_days(&self, days: &Days) -> Result<Range<i64>, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.record_days(days).await,
            Engine::Embedded(_) => Ok(0..0),
        }
    }

    /// The days that any process has noted from number `since` on, and the number of the next
    /// note. All days where that cannot be told, or `since` is `None`.
    ///
    /// # Errors
    /// Where the notes cannot be read.
    pub async fn recorded_days(&self, since: Option<i64>) -> Result<(i64, Days), StoreError> {
        let noted = match &self.engine {
            Engine::Mongo(engine) => engine.recorded_days(since).await,
            Engine::Embedded(_) => Ok((0, Days::default())),
        };
        noted.inspect(|(_, days)| {
            if !days.is_empty() {
                self.changed.renew();
            }
        })
    }

    /// How many holodules there are (an estimate is allowed above zero).
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn count_holodules(&self) -> Result<u64, StoreError> {
        engine!(self.count_holodules())
    }

    /// Every holodule, by `datetime` and then `key`, both ascending.
    ///
    /// # Errors
    /// Where the reading cannot begin; one that breaks off tells so in the stream.
    pub async fn export(&self) -> Result<BoxStream<'static, Result<Exported, StoreError>>, StoreError> {
        engine!(self.export())
    }

    /// How many holodules no day shows, because their `datetime` is not text that begins with a
    /// day, as last counted. Always 0 when embedded.
    pub fn undated_holodules(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.undated_holodules(),
            Engine::Embedded(_) => 0,
        }
    }

    /// How many of MongoDB's indexes were found missing since the start and made again.
    pub fn restored_indexes(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.restored_indexes(),
            Engine::Embedded(_) => 0,
        }
    }

    /// How many `video_id`s stand in more than one document, as last counted: above
    /// zero, MongoDB serves without its unique index. Always 0 when embedded.
    pub fn duplicate_video_ids(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.duplicate_video_ids(),
            Engine::Embedded(_) => 0,
        }
    }
}
