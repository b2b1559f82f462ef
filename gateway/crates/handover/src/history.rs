//! What a program reports about its upgrades, to the commands that request them.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::draining::Draining;
use crate::upgrader::NotUpgraded;

/// The results of the upgrades that this process attempted.
#[derive(Debug)]
pub struct History {
    predecessor: Option<u32>,
    draining: Arc<Draining>,
    results: Mutex<Results>,
}

#[derive(Debug, Default)]
struct Results {
    attempts: u64,
    last: Option<Failure>,
}

/// Why the last upgrade did not take place.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `failed` or `refused`.
    pub result: String,
    /// For the operator.
    pub reason: String,
}

/// The page on which the process reports the state of its upgrades. The same listener serves it before and after an upgrade.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The id of the process that serves.
    pub process: u32,
    /// The id of the process that it took over from, if any.
    pub predecessor: Option<u32>,
    /// The ids of earlier processes that still drain.
    pub draining: Vec<u32>,
    /// The number of its upgrades that failed or were refused.
    pub unsuccessful: u64,
    /// The last of them.
    pub last: Option<Failure>,
}

impl History {
    /// That of a process that took over from `predecessor`, or was started in another way.
    pub fn new(predecessor: Option<u32>, draining: Arc<Draining>) -> Self {
        Self { predecessor, draining, results: Mutex::default() }
    }

    /// Records that an upgrade failed or was refused, and returns which.
    pub fn record(&self, error: &NotUpgraded) -> &'static str {
        let result = if error.is_refusal() { "refused" } else { "failed" };
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.attempts = results.attempts.saturating_add(1);
        results.last = Some(Failure { result: result.to_owned(), reason: error.to_string() });
        result
    }

    /// The predecessors that still drain.
    pub fn draining(&self) -> Vec<u32> {
        self.draining.processes()
    }

    /// The page.
    pub fn page(&self) -> Page {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        Page {
            process: std::process::id(),
            predecessor: self.predecessor,
            draining: self.draining.processes(),
            unsuccessful: results.attempts,
            last: results.last.clone(),
        }
    }
}
