//! The texts of days that were searched, in memory.
//!
//! No index of the server serves a search for a part of a text, and reading the documents of a month takes longer than
//! to search them. So a search reads whole days, which are cached for the following ones: until the day changes, memory
//! is needed for others, or their age reaches a limit ([`cache`]).
//!
//! Changes of a day by this process discard it at once, and those by others when the change stream reports them.
//! Without a change stream, those of other backends are recorded ([`super::days`]), and the age limit is lower.
//! Besides, a search compares the number of documents in its ranges with those of the days (see the searches in
//! [`super::list`]).

mod cache;
mod day;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::doc;
use tokio::task::AbortHandle;

pub(super) use self::cache::CachedDay;
use self::cache::DayCache;
use self::day::{DayBuilder, Unsuitable};
pub(super) use self::day::{DayTexts, Query, UnknownPosition};
use super::{Mongo, primary};
use crate::coalesce::Coalescer;
use crate::model::{Day, Selection};
use crate::store::changed::ChangedDays;
use crate::store::{SearchCacheStats, StoreError};

/// The maximum number of days of a search in the cache.
const DAYS_LIMIT: usize = 100;
/// Documents per batch.
const BATCH: u32 = 2000;
/// How long to wait for a primary. Searches are possible without one.
const PRIMARY_WAIT: Duration = Duration::from_secs(1);

/// The days in memory, and those being read.
pub(super) struct Texts {
    changed: Arc<ChangedDays>,
    /// Whether any day can be cached.
    is_enabled: bool,
    cache: Mutex<DayCache>,
    /// By the version at which a read began: a later search does not get an earlier state.
    reads: Coalescer<(Day, u64), Result<CachedDay, StoreError>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Texts {
    /// At most `capacity` bytes; with 0, nothing is cached.
    pub(super) fn new(capacity: u64, changed: Arc<ChangedDays>) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self {
            changed,
            is_enabled: capacity > 0,
            cache: Mutex::new(DayCache::new(capacity)),
            reads: Coalescer::new(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn stats(&self) -> SearchCacheStats {
        let mut cache = self.cache();
        cache.discard_changed(&self.changed);
        SearchCacheStats {
            bytes: cache.bytes() as u64,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// The days of the ranges of a selection, ascending; `None` if they are too many or cannot be named.
    pub(super) fn days_of(&self, selection: &Selection) -> Option<Vec<Day>> {
        if !self.is_enabled {
            return None;
        }
        let mut days: Vec<Day> = Vec::new();
        for range in &selection.ranges {
            let day_of = |datetime: &str| Day::parse(datetime.get(..8)?).ok();
            let (first, end) = (day_of(&range.start)?, day_of(&range.end)?);
            let mut next = Some(first);
            while let Some(day) = next.filter(|day| *day <= end && day.datetimes().start < range.end) {
                if days.last().is_none_or(|last| *last < day) {
                    days.push(day);
                }
                if days.len() > DAYS_LIMIT {
                    return None;
                }
                next = day.checked_add(1);
            }
        }
        Some(days)
    }

    /// The days, if all of them are in memory.
    pub(super) fn all(&self, days: &[Day]) -> Option<Vec<Arc<DayTexts>>> {
        let (mut cache, now) = (self.cache(), Instant::now());
        let texts = |day: &Day| match cache.get(*day, now, &self.changed) {
            Some(CachedDay::Texts(texts)) => Some(texts),
            Some(CachedDay::Unsuitable) | None => None,
        };
        days.iter().map(texts).collect()
    }

    /// Discards days that are not as expected.
    pub(super) fn discard(&self, days: &[Day]) {
        let mut cache = self.cache();
        days.iter().for_each(|day| cache.remove(*day));
    }

    /// Records that these days cannot be searched in memory, after a search that began at `since` and `version`. A day
    /// that has changed meanwhile is not marked.
    pub(super) fn mark_unsuitable(&self, days: &[Day], since: Instant, version: u64) {
        let mut cache = self.cache();
        for day in days {
            cache.insert(*day, CachedDay::Unsuitable, since, version, &self.changed);
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.changed.version()
    }

    fn cache(&self) -> MutexGuard<'_, DayCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mongo {
    /// The texts of a day: from memory, or read now and cached.
    pub(super) async fn texts_of(&self, day: Day) -> Result<CachedDay, StoreError> {
        let texts = &self.texts;
        let cached = texts.cache().get(day, Instant::now(), &texts.changed);
        if let Some(cached) = cached {
            texts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(cached);
        }
        texts.misses.fetch_add(1, Ordering::Relaxed);
        let version = texts.changed.version();
        let read = texts.reads.join((day, version), || {
            let (mongo, since) = (self.clone(), Instant::now());
            // A task for each day, so that several days are read on several cores.
            let read = tokio::spawn(async move {
                let cached = mongo.within_limits(mongo.read_texts(day)).await?;
                mongo.texts.cache().insert(day, cached.clone(), since, version, &mongo.texts.changed);
                Ok(cached)
            });
            let _aborts = AbortOnDrop(read.abort_handle());
            async move {
                let _aborts = _aborts;
                read.await.unwrap_or_else(|_| Err(StoreError::Failed("the read of a day panicked".to_owned())))
            }
        });
        read.await
    }

    async fn within_limits<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let too_slow = || StoreError::Unavailable("a day could not be read in time".to_owned());
        tokio::time::timeout(self.timeout, read).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// From the primary: a secondary may not have a change that was reported before.
    async fn read_texts(&self, day: Day) -> Result<CachedDay, StoreError> {
        let range = day.datetimes();
        let find = self.holodules.find(doc! { "datetime": { "$gte": range.start, "$lt": range.end } });
        let order = doc! { "datetime": 1, "key": 1, "_id": 1 };
        let find = find.sort(order).batch_size(BATCH).max_time(self.timeout).selection_criteria(primary());
        let cursor = tokio::time::timeout(PRIMARY_WAIT.min(self.timeout), async { find.await }).await;
        let cursor = cursor.map_err(|_| StoreError::Unavailable("there is no primary".to_owned()))?;
        let mut cursor = cursor.map_err(|error| super::error::store_error(&self.server, &error))?;
        let limit = self.texts.cache().day_limit();
        let mut builder = DayBuilder::new(limit);
        while let Some(document) = self.within(cursor.try_next()).await? {
            if let Err(Unsuitable) = builder.push(&document) {
                return Ok(CachedDay::Unsuitable);
            }
        }
        Ok(CachedDay::Texts(Arc::new(builder.build())))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
