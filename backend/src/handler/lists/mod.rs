//! Lists of holodules, and the streamers, for clients of the api listener.

mod cursor;
pub(super) mod now;
pub(super) mod page;
mod query;
pub(super) mod schedules;
mod search;
mod status;
pub(super) mod streamers;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use self::now::NowKey;
use self::page::{ListKey, ListRead};
use self::search::SearchLimits;
use self::streamers::StreamersCache;
use crate::coalesce::Coalescer;
use crate::model::ScheduleQuery;

pub(crate) use self::cursor::{decode_cursor, encode_cursor};
pub(crate) use self::now::now;
pub(crate) use self::page::{holodules, of_streamer};
pub(super) use self::query::{StreamQuery, check_known};
pub(crate) use self::schedules::{schedule, schedules};
pub use self::search::SearchSettings;
pub(crate) use self::streamers::{streamer, streamers};

/// For lists of fixed days. Every change purges the lists in the gateway's cache, so this lifetime matters only if a
/// purge is lost.
pub(super) const CACHED: HeaderValue =
    HeaderValue::from_static("public, max-age=0, s-maxage=30, stale-while-revalidate=30, stale-if-error=86400");
/// For responses that depend on the clock.
pub(super) const CACHED_BY_CLOCK: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=2");

/// The settings of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSettings {
    /// How long a stream counts as live after its start, in seconds.
    pub assumed_duration: u32,
    /// The limits of searches.
    pub search: SearchSettings,
}

impl Default for ListSettings {
    /// The defaults of the configuration.
    fn default() -> Self {
        let search = SearchSettings { concurrency: 4, timeout: Duration::from_secs(2), rate: 20, burst: 40 };
        Self { assumed_duration: 7200, search }
    }
}

/// The state of the lists.
#[derive(Debug)]
pub(super) struct Lists {
    streamers: StreamersCache,
    search: Arc<SearchLimits>,
    reads: Coalescer<ListKey, ListRead>,
    now_reads: Coalescer<NowKey, ListRead>,
    schedule_reads: Coalescer<(ScheduleQuery, u64), ListRead>,
}

impl Lists {
    pub(super) fn new(settings: &ListSettings) -> Self {
        Self {
            streamers: StreamersCache::new(),
            search: Arc::new(SearchLimits::new(&settings.search)),
            reads: Coalescer::new(),
            now_reads: Coalescer::new(),
            schedule_reads: Coalescer::new(),
        }
    }
}
