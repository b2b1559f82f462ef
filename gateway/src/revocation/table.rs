//! What is known of the identities in use: a table of a fixed size, in which each identity is
//! asked about once, however many wait for the answer.
//!
//! Only whoever holds a valid token gets an identity in here. Where more of them are in use than
//! there is room for, the one that was asked about first leaves and costs a question to the
//! backend when it comes back; it is never taken for good or bad meanwhile.

use std::array;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::standing::Standing;

/// Parts of the table that are locked on their own, so that workers seldom meet.
const SHARDS: usize = 16;

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

/// What the table says of an identity.
pub(super) enum Found {
    /// It is known.
    Known(Arc<Standing>),
    /// Somebody has asked; the answer comes here.
    Awaited(watch::Receiver<Option<Answer>>),
    /// Nobody has: the caller is to ask, and to tell [`Table::settle`].
    Unknown(Ticket),
}

/// Who asks about an identity.
pub(super) struct Ticket {
    number: u64,
    answer: watch::Sender<Option<Answer>>,
}

impl Ticket {
    /// Where the answer will be.
    pub(super) fn answer(&self) -> watch::Receiver<Option<Answer>> {
        self.answer.subscribe()
    }
}

enum Slot {
    Known(Arc<Standing>),
    /// The number tells this question from a later one about the same identity.
    Asked {
        number: u64,
        answer: watch::Receiver<Option<Answer>>,
    },
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Arc<str>, Slot>,
    /// The identities that are known, in the order in which they came, each once or more.
    order: VecDeque<Arc<str>>,
    questions: u64,
}

/// The table.
pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    per_shard: usize,
    hasher: RandomState,
}

impl Table {
    /// Room for `capacity` identities, rounded up to the shards.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: array::from_fn(|_| Mutex::default()),
            per_shard: capacity.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
        }
    }

    /// What is known of `identity`.
    pub(super) fn find(&self, identity: &Arc<str>) -> Found {
        let mut shard = self.shard(identity);
        match shard.slots.get(identity) {
            Some(Slot::Known(standing)) => return Found::Known(Arc::clone(standing)),
            // Whoever asked may have gone without a word, as a client does that leaves.
            Some(Slot::Asked { answer, .. }) if answer.has_changed().is_ok() => return Found::Awaited(answer.clone()),
            _ => {}
        }
        shard.questions += 1;
        let number = shard.questions;
        let (asking, answer) = watch::channel(None);
        shard.slots.insert(Arc::clone(identity), Slot::Asked { number, answer });
        Found::Unknown(Ticket { number, answer: asking })
    }

    /// Tells whoever waits for it what the backend said of `identity`, and keeps it where it is
    /// to be kept. What [`Table::forget`] or [`Table::clear`] came before is neither kept nor told.
    pub(super) fn settle(&self, identity: &Arc<str>, ticket: &Ticket, told: Result<(Arc<Standing>, Keep), Arc<str>>) {
        let mut guard = self.shard(identity);
        let shard = &mut *guard;
        let holds = matches!(shard.slots.get(identity), Some(Slot::Asked { number, .. }) if *number == ticket.number);
        let answer = match told {
            Ok((standing, Keep::Yes)) if holds => {
                shard.slots.insert(Arc::clone(identity), Slot::Known(Arc::clone(&standing)));
                shard.order.push_back(Arc::clone(identity));
                shard.trim(self.per_shard);
                Answer::Told(standing)
            }
            Ok((standing, Keep::No)) if holds => {
                shard.slots.remove(identity);
                Answer::Told(standing)
            }
            Ok(_) => Answer::Overtaken,
            Err(reason) => {
                if holds {
                    shard.slots.remove(identity);
                }
                Answer::Untold(reason)
            }
        };
        drop(guard);
        ticket.answer.send_replace(Some(answer));
    }

    /// Forgets what is known of `identity`; what is being asked will not be believed.
    pub(super) fn forget(&self, identity: &str) {
        self.shard(identity).slots.remove(identity);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.slots.clear();
            shard.order.clear();
        }
    }

    /// How many identities are known or asked about.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).slots.len()).sum()
    }

    fn shard(&self, identity: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(identity) % SHARDS as u64;
        // The index is below their number, so the first never stands in for another.
        let [first, ..] = &self.shards;
        let shard = usize::try_from(index).ok().and_then(|index| self.shards.get(index)).unwrap_or(first);
        // A panic elsewhere leaves a shard whole: each change is one call on a collection.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Keeps at most `capacity` known identities, those that came last, and the order as short.
    fn trim(&mut self, capacity: usize) {
        while self.order.len() > capacity {
            let Some(oldest) = self.order.pop_front() else { return };
            // It may have been forgotten since, or come again.
            if matches!(self.slots.get(&oldest), Some(Slot::Known(_))) {
                self.slots.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(table: &Table, identity: &str) -> Ticket {
        match table.find(&identity.into()) {
            Found::Unknown(ticket) => ticket,
            _ => panic!("{identity} is known or asked about"),
        }
    }

    fn is_known(table: &Table, identity: &str) -> bool {
        matches!(table.find(&identity.into()), Found::Known(_))
    }

    fn tell(table: &Table, identity: &str, ticket: &Ticket) {
        table.settle(&identity.into(), ticket, Ok((Arc::new(Standing::nobody()), Keep::Yes)));
    }

    async fn answer(mut answer: watch::Receiver<Option<Answer>>) -> Answer {
        answer.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    #[tokio::test]
    async fn one_asks_and_the_others_wait_for_the_same_answer() {
        let table = Table::new(100);
        let ticket = ask(&table, "a");
        let Found::Awaited(awaited) = table.find(&"a".into()) else { panic!("asked twice") };
        tell(&table, "a", &ticket);
        assert!(matches!(answer(awaited).await, Answer::Told(_)));
        assert!(is_known(&table, "a"));
    }

    #[tokio::test]
    async fn an_answer_that_a_change_overtook_is_neither_kept_nor_told() {
        let table = Table::new(100);
        for forget in [Table::clear, (|table| table.forget("a")) as fn(&Table)] {
            let ticket = ask(&table, "a");
            forget(&table);
            tell(&table, "a", &ticket);
            assert!(matches!(answer(ticket.answer()).await, Answer::Overtaken));
            assert!(!is_known(&table, "a"));
            table.forget("a");
        }
    }

    #[tokio::test]
    async fn what_is_not_to_be_kept_is_told_and_the_next_asks_again() {
        let table = Table::new(100);
        let ticket = ask(&table, "a");
        let Found::Awaited(awaited) = table.find(&"a".into()) else { panic!("asked twice") };
        table.settle(&"a".into(), &ticket, Ok((Arc::new(Standing::nobody()), Keep::No)));
        assert!(matches!(answer(awaited).await, Answer::Told(_)));
        assert_eq!(table.len(), 0);
        let overtaken = ask(&table, "a");
        table.forget("a");
        table.settle(&"a".into(), &overtaken, Ok((Arc::new(Standing::nobody()), Keep::No)));
        assert!(matches!(answer(overtaken.answer()).await, Answer::Overtaken));
    }

    #[tokio::test]
    async fn no_answer_is_told_and_the_next_asks_again() {
        let table = Table::new(100);
        let ticket = ask(&table, "a");
        table.settle(&"a".into(), &ticket, Err("away".into()));
        assert!(matches!(answer(ticket.answer()).await, Answer::Untold(_)));
        ask(&table, "a");
    }

    #[test]
    fn a_later_question_is_not_answered_by_an_earlier_one() {
        let table = Table::new(100);
        let first = ask(&table, "a");
        table.forget("a");
        let second = ask(&table, "a");
        tell(&table, "a", &first);
        assert!(!is_known(&table, "a"));
        tell(&table, "a", &second);
        assert!(is_known(&table, "a"));
    }

    #[test]
    fn a_question_whose_asker_is_gone_is_asked_again() {
        let table = Table::new(100);
        drop(ask(&table, "a"));
        drop(ask(&table, "a"));
    }

    #[test]
    fn a_million_identities_take_no_more_room_than_the_table_has() {
        let table = Table::new(160);
        for number in 0..1_000_000 {
            let identity = number.to_string();
            let ticket = ask(&table, &identity);
            tell(&table, &identity, &ticket);
            if number % 3 == 0 {
                table.forget(&identity);
            }
        }
        assert!(table.len() <= 160, "{}", table.len());
        for shard in &table.shards {
            assert!(shard.lock().unwrap().order.len() <= 10);
        }
    }
}
