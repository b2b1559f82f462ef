//! The statuses of accounts by identity: at most one query in progress for each, and a bounded number of stored
//! statuses.
//!
//! Only identities of valid tokens are in the table. If there are more of them than its capacity, the status stored
//! first is evicted, and costs another query when its identity is used again. No token is accepted or refused because
//! of an eviction.

use std::sync::Arc;

use super::account::AccountStatus;
use crate::single_flight::{Completion, Leader, SingleFlight};

/// The result of a query.
#[derive(Clone)]
pub(super) enum StatusResult {
    /// The status.
    Known(Arc<AccountStatus>),
    /// The query failed. The text is for the log.
    Failed(Arc<str>),
    /// The account changed during the query, so that the status may be outdated; query again.
    Superseded,
}

/// Which backend process returned a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedOrigin {
    /// The one whose feed is followed. The status is stored until the feed names the identity.
    Followed,
    /// Another one, whose changes are not received. The status is used once.
    Other,
}

/// Statuses and queries in progress by identity.
pub(super) type StatusTable = SingleFlight<Arc<str>, StatusResult>;

/// Completes a query. The status of an identity that was removed from the table during the query is neither stored
/// nor used.
pub(super) fn complete(
    leader: Leader<Arc<str>, StatusResult>,
    result: Result<(Arc<AccountStatus>, FeedOrigin), Arc<str>>,
) {
    leader.complete(|is_current| match result {
        Ok(_) if !is_current => Completion::Share(StatusResult::Superseded),
        Ok((status, FeedOrigin::Followed)) => Completion::Store(StatusResult::Known(status)),
        Ok((status, FeedOrigin::Other)) => Completion::Share(StatusResult::Known(status)),
        Err(reason) => Completion::Share(StatusResult::Failed(reason)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::single_flight::Joined;

    fn lead(table: &StatusTable) -> (Joined<StatusResult>, Leader<Arc<str>, StatusResult>) {
        let (joined, leader) = table.join(&"a".into());
        (joined, leader.expect("neither stored nor queried"))
    }

    fn no_user(origin: FeedOrigin) -> Result<(Arc<AccountStatus>, FeedOrigin), Arc<str>> {
        Ok((Arc::new(AccountStatus::no_user()), origin))
    }

    #[tokio::test]
    async fn a_status_is_stored_until_it_is_removed() {
        let table = StatusTable::new(100);
        let (joined, leader) = lead(&table);
        complete(leader, no_user(FeedOrigin::Followed));
        assert!(matches!(joined.result().await, Some(StatusResult::Known(_))));
        assert!(matches!(table.join(&"a".into()), (Joined::Stored(StatusResult::Known(_)), None)));
        table.remove("a");
        lead(&table);
    }

    #[tokio::test]
    async fn a_superseded_status_is_neither_stored_nor_used() {
        let table = StatusTable::new(100);
        for remove in [|table: &StatusTable| drop(table.take()), |table: &StatusTable| table.remove("a")] {
            for origin in [FeedOrigin::Followed, FeedOrigin::Other] {
                let (joined, leader) = lead(&table);
                remove(&table);
                complete(leader, no_user(origin));
                assert!(matches!(joined.result().await, Some(StatusResult::Superseded)));
                assert_eq!(table.len(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_status_from_another_backend_is_shared_once_and_queried_again() {
        let table = StatusTable::new(100);
        let (joined, leader) = lead(&table);
        complete(leader, no_user(FeedOrigin::Other));
        assert!(matches!(joined.result().await, Some(StatusResult::Known(_))));
        assert_eq!(table.len(), 0);
        lead(&table);
    }

    #[tokio::test]
    async fn a_failure_is_shared_once_and_queried_again() {
        let table = StatusTable::new(100);
        let (joined, leader) = lead(&table);
        complete(leader, Err("unreachable".into()));
        assert!(matches!(joined.result().await, Some(StatusResult::Failed(_))));
        lead(&table);
    }
}
