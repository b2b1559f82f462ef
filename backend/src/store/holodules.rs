//! Operations on holodules, and changes of days.

use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};

use super::changed::ChangedDays;
use super::{DayListing, Engine, Exported, Listing, SearchCacheStats, Store, StoreError, Upserted, engine};
use crate::model::{Day, Days, Identifier, PageRequest, Precondition, Selection, ValidHolodule};

/// A stream of changes by all processes.
struct Watch {
    changed: Arc<ChangedDays>,
    is_running: bool,
}

impl Watch {
    /// Records an item of the stream, `None` for an error, before the consumer has it.
    fn observe(&mut self, days: Option<&Days>) {
        match days {
            Some(days) if self.is_running => self.changed.changed(days.clone()),
            // It begins, or begins again, with all days or with those that were missed.
            Some(_) => self.changed.watch_begins(),
            None => self.changed.watch_ends(),
        }
        self.is_running = days.is_some();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changed.watch_ends();
    }
}

impl Store {
    /// The holodules of a day, in Japan standard time.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        engine!(self.day(day))
    }

    /// A page of the holodules of `selection`. Both engines read indexes only: the time depends on the number of
    /// selected holodules, not on the size of the store. For a text, every holodule of the ranges is read; on MongoDB,
    /// days that were read for an earlier search are in memory, within `Settings::text_cache`.
    ///
    /// # Errors
    /// If the store cannot be read within the operation timeout.
    pub async fn list(&self, selection: &Selection, page: &PageRequest) -> Result<Listing, StoreError> {
        engine!(self.list(selection, page))
    }

    /// A number that increases before a change is acknowledged or published: reads before it were made at another
    /// version. External changes that are not detected do not increase it.
    pub fn version(&self) -> u64 {
        self.changed.version()
    }

    /// Stores `entries` in order, each under its [`Identifier`]; a later one with the same identifier wins. Fields that
    /// an entry does not have remain stored ([`ValidHolodule::merged_into`]).
    ///
    /// Several videos may share a key. An entry without a video replaces the one of its key that has no video either,
    /// otherwise the oldest.
    ///
    /// The result is durable when this returns. The write completes even if the caller is dropped. After an error, the
    /// embedded store has none of the entries and MongoDB may have some; the call can be repeated.
    ///
    /// # Errors
    /// If an entry could not be written, or it is unknown whether it was.
    pub async fn upsert(&self, entries: Vec<ValidHolodule>) -> Result<Vec<Upserted>, StoreError> {
        engine!(self.upsert(entries))
    }

    /// Stores `entry` as [`Store::upsert`] does if the stored holodule meets `condition`; `None` if it does not.
    ///
    /// No other write happens between the check and the write. There is one exception: on MongoDB, which has no unique
    /// index of keys, two writers may create the same key without a `video_id` at the same time.
    ///
    /// # Errors
    /// Those of [`Store::upsert`].
    pub async fn upsert_if(
        &self,
        entry: ValidHolodule,
        condition: &Precondition,
    ) -> Result<Option<Upserted>, StoreError> {
        engine!(self.upsert_if(entry, condition))
    }

    /// Deletes a holodule as [`Store::delete_holodule`] does if it meets `condition`; `None` if it does not. Of several
    /// documents, each must meet it.
    ///
    /// # Errors
    /// Those of [`Store::delete_holodule`].
    pub async fn delete_if(&self, id: &Identifier, condition: &Precondition) -> Result<Option<bool>, StoreError> {
        engine!(self.delete_if(id, condition))
    }

    /// Deletes a holodule and returns whether it existed. By key, it is the one that [`Store::upsert`] would replace.
    /// Completes even if the caller is dropped.
    ///
    /// # Errors
    /// If it is unknown whether the holodule was deleted.
    pub async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        engine!(self.delete_holodule(id))
    }

    /// The days that writes of this process have or may have changed since the last call. Waits if there are none; for
    /// a single caller.
    pub async fn changed_days(&self) -> Days {
        self.changed.take().await
    }

    /// Streams the days changed by any process, if the engine supports it: first all days, then changes from now on.
    /// Errors and the end are as for [`Store::changes`].
    pub fn day_changes(&self) -> BoxStream<'static, Result<Days, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => {
                let watch = Watch { changed: Arc::clone(&self.changed), is_running: false };
                engine
                    .day_changes()
                    .scan(watch, |watch, change| {
                        watch.observe(change.as_ref().ok());
                        std::future::ready(Some(change))
                    })
                    .boxed()
            }
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Records changed days for other processes, if the engine does not stream changes. Returns the numbers of the
    /// records, which are shared by all processes.
    ///
    /// # Errors
    /// If it is unknown whether they were recorded; the call can be repeated.
    pub async fn record_days(&self, days: &Days) -> Result<Range<i64>, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.record_days(days).await,
            Engine::Embedded(_) => Ok(0..0),
        }
    }

    /// The days recorded by any process since number `since`, and the number of the next record. All days if that is
    /// unknown, or `since` is `None`.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn recorded_days(&self, since: Option<i64>) -> Result<(i64, Days), StoreError> {
        let recorded = match &self.engine {
            Engine::Mongo(engine) => engine.recorded_days(since).await,
            Engine::Embedded(_) => Ok((0, Days::default())),
        };
        recorded.inspect(|(_, days)| {
            if !days.is_empty() {
                self.changed.changed(days.clone());
            }
        })
    }

    /// The number of holodules; above zero it may be an estimate.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn count_holodules(&self) -> Result<u64, StoreError> {
        engine!(self.count_holodules())
    }

    /// All holodules by `datetime`, then `key`, both ascending.
    ///
    /// # Errors
    /// If the read cannot start; later failures are in the stream.
    pub async fn export(&self) -> Result<BoxStream<'static, Result<Exported, StoreError>>, StoreError> {
        engine!(self.export())
    }

    /// The last counted number of holodules that are not listed under any day because of their `datetime`. Always 0 for
    /// the embedded store.
    pub fn undated_holodules(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.undated_holodules(),
            Engine::Embedded(_) => 0,
        }
    }

    /// The number of MongoDB indexes that were missing after the start and have been created again.
    pub fn restored_indexes(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.restored_indexes(),
            Engine::Embedded(_) => 0,
        }
    }

    /// The texts of searched days in memory. The embedded store has none.
    pub fn search_cache(&self) -> SearchCacheStats {
        match &self.engine {
            Engine::Mongo(engine) => engine.search_cache(),
            Engine::Embedded(_) => SearchCacheStats::default(),
        }
    }

    /// The last counted number of `video_id`s in more than one document. Above zero, MongoDB runs without its unique
    /// index. Always 0 for the embedded store.
    pub fn duplicate_video_ids(&self) -> u64 {
        match &self.engine {
            Engine::Mongo(engine) => engine.duplicate_video_ids(),
            Engine::Embedded(_) => 0,
        }
    }
}
