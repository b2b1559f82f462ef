//! Calendar feeds: a user creates, lists and deletes them with a token; any client with the key of a feed can read it.
//! Administrators list and delete those of any user.

pub(super) mod manage;
mod of_user;
pub(super) mod read;
mod writes;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use manage::{create, delete, list};
pub(crate) use of_user::{delete as delete_of_user, list as list_of_user};
pub(crate) use read::read;

use self::read::Read;
use self::writes::WriteBudget;
use crate::coalesce::Coalescer;

/// The maximum number of feeds that are read at the same time. Each has up to 1,000 events in memory.
const CONCURRENT_READS: usize = 4;

/// The state of the handlers of calendar feeds.
pub(super) struct Calendars {
    /// Coalesces reads of a feed, by its id and the store's version.
    reads: Coalescer<(String, u64), Read>,
    permits: Arc<Semaphore>,
    writes: Arc<WriteBudget>,
}

impl Calendars {
    pub(super) fn new() -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_READS));
        Self { reads: Coalescer::new(), permits, writes: Arc::default() }
    }
}
