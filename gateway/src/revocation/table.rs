//! What the backend said of the identities in use: one request for each identity, however many
//! wait for the answer, and a bounded number of answers.
//!
//! Only whoever holds a valid token gets an identity in here. Where more of them are in use than
//! there is room for, the one that was asked about first leaves and costs a question to the
//! backend when it comes back; it is never taken for good or bad meanwhile.

use std::sync::Arc;

use super::standing::Standing;
use crate::single_flight::{Completion, Leader, SingleFlight};

/// What became of a question.
#[derive(Clone)]
pub(super) enum Answer {
    /// The backend's answer.
    Told(Arc<Standing>),
    /// There is none; the text is for the log.
    Untold(Arc<str>),
    /// Something changed meanwhile, so that the answer may not hold: ask again.
    Overtaken,
}

/// Whether an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Until it is forgotten.
    Yes,
    /// It holds for those who wait for it, and nobody would tell when it no longer does.
    No,
}

/// The answers by identity.
pub(super) type Table = SingleFlight<Arc<str>, Answer>;

/// Ends a question with what the backend said, and keeps it where it is to be kept. An answer about an
/// identity that was removed from the table meanwhile is neither kept nor believed.
pub(super) fn settle(question: Leader<Arc<str>, Answer>, told: Result<(Arc<Standing>, Keep), Arc<str>>) {
    question.complete(|is_current| match told {
        Ok(_) if !is_current => Completion::Share(Answer::Overtaken),
        Ok((standing, Keep::Yes)) => Completion::Store(Answer::Told(standing)),
        Ok((standing, Keep::No)) => Completion::Share(Answer::Told(standing)),
        Err(reason) => Completion::Share(Answer::Untold(reason)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::single_flight::Joined;

    fn ask(table: &Table) -> (Joined<Answer>, Leader<Arc<str>, Answer>) {
        let (joined, leader) = table.join(&"a".into());
        (joined, leader.expect("a is known or asked about"))
    }

    fn nobody(keep: Keep) -> Result<(Arc<Standing>, Keep), Arc<str>> {
        Ok((Arc::new(Standing::nobody()), keep))
    }

    #[tokio::test]
    async fn an_answer_is_stored_until_it_is_removed() {
        let table = Table::new(100);
        let (joined, leader) = ask(&table);
        settle(leader, nobody(Keep::Yes));
        assert!(matches!(joined.result().await, Some(Answer::Told(_))));
        assert!(matches!(table.join(&"a".into()), (Joined::Stored(Answer::Told(_)), None)));
        table.remove("a");
        ask(&table);
    }

    #[tokio::test]
    async fn an_answer_that_a_change_overtook_is_neither_stored_nor_believed() {
        let table = Table::new(100);
        for remove in [Table::clear, |table: &Table| table.remove("a")] {
            for keep in [Keep::Yes, Keep::No] {
                let (joined, leader) = ask(&table);
                remove(&table);
                settle(leader, nobody(keep));
                assert!(matches!(joined.result().await, Some(Answer::Overtaken)));
                assert_eq!(table.len(), 0);
            }
        }
    }

    #[tokio::test]
    async fn an_answer_of_another_feed_is_shared_once_and_requested_again() {
        let table = Table::new(100);
        let (joined, leader) = ask(&table);
        settle(leader, nobody(Keep::No));
        assert!(matches!(joined.result().await, Some(Answer::Told(_))));
        assert_eq!(table.len(), 0);
        ask(&table);
    }

    #[tokio::test]
    async fn a_failure_is_shared_once_and_the_next_request_retries() {
        let table = Table::new(100);
        let (joined, leader) = ask(&table);
        settle(leader, Err("away".into()));
        assert!(matches!(joined.result().await, Some(Answer::Untold(_))));
        ask(&table);
    }
}
