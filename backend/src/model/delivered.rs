//! The delivered events of a calendar feed, from which the revisions of its events are determined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The events that a feed has delivered. It is stored for each feed, so that an event that leaves the feed, for whatever
/// reason, is cancelled in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// By UID.
    pub events: BTreeMap<String, DeliveredEvent>,
}

/// The last delivered state of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredEvent {
    /// A digest of the delivered properties.
    pub digest: String,
    /// `SEQUENCE`: 0 to 2,147,483,647.
    pub sequence: i64,
    /// `LAST-MODIFIED`, in seconds since the Unix epoch.
    pub modified: i64,
    /// The start, in seconds since the Unix epoch.
    pub starts_at: i64,
    /// The beginning of the summary, for a cancellation.
    pub summary: String,
    /// When it left the feed, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<i64>,
}

/// [`Delivered`] as stored, with the number of the write, by which a concurrent one is detected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveredRevision {
    /// 0 if nothing is stored.
    pub revision: i64,
    /// The stored state.
    pub delivered: Delivered,
}
