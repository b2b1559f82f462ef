//! One question to the backend for all who want the same answer at the same time.
//!
//! A key is in here only while it is asked for, so that there are never more of them than
//! requests under way.

use std::array;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Key;
use super::generation::Generation;

/// Parts of the table that are locked on their own, so that workers seldom meet.
const SHARDS: usize = 16;

/// Where the outcome comes, once there is one.
pub(super) type Awaited<T> = watch::Receiver<Option<T>>;

/// What a request that needs an answer is to do.
pub(super) enum Boarded<T> {
    /// Nobody asks: it is to, and to tell by [`Flights::land`].
    First(Ticket<T>, Awaited<T>),
    /// Somebody does.
    Joined(Awaited<T>),
}

/// Who asks for a key.
pub(super) struct Ticket<T> {
    key: Key,
    number: u64,
    outcome: watch::Sender<Option<T>>,
}

struct Flight<T> {
    /// Tells this question from a later one for the same key.
    number: u64,
    generation: Generation,
    outcome: Awaited<T>,
}

struct Shard<T> {
    flights: HashMap<Key, Flight<T>>,
    begun: u64,
}

/// The questions under way, each with what becomes of it: a `T`.
pub(super) struct Flights<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    hasher: RandomState,
}

impl<T> Flights<T> {
    pub(super) fn new() -> Self {
        Self {
            shards: array::from_fn(|_| Mutex::new(Shard { flights: HashMap::new(), begun: 0 })),
            hasher: RandomState::new(),
        }
    }

    /// Joins the question for `key`, or begins it. One that was asked before a purge, that is of
    /// another `generation`, is not joined after it.
    pub(super) fn board(&self, key: &Key, generation: Generation) -> Boarded<T> {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.flights.get(key)
            && flight.generation == generation
            // Whoever asked may have gone without a word.
            && flight.outcome.has_changed().is_ok()
        {
            return Boarded::Joined(flight.outcome.clone());
        }
        shard.begun += 1;
        let number = shard.begun;
        let (sender, outcome) = watch::channel(None);
        shard.flights.insert(key.clone(), Flight { number, generation, outcome: outcome.clone() });
        Boarded::First(Ticket { key: key.clone(), number, outcome: sender }, outcome)
    }

    /// Ends a question, and tells whoever waits what became of it.
    pub(super) fn land(&self, ticket: &Ticket<T>, outcome: T) {
        let mut shard = self.shard(&ticket.key);
        if shard.flights.get(&ticket.key).is_some_and(|flight| flight.number == ticket.number) {
            shard.flights.remove(&ticket.key);
        }
        drop(shard);
        ticket.outcome.send_replace(Some(outcome));
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<T>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        // The index is below the number of shards; the first stands in for none.
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::generation::Generations;
    use super::super::key::Parts;
    use super::*;

    fn key(target: &str) -> Key {
        Key::new(Parts { host: "a", target, identity: None }, std::iter::empty())
    }

    fn first<T>(boarded: Boarded<T>) -> Option<Ticket<T>> {
        match boarded {
            Boarded::First(ticket, _) => Some(ticket),
            Boarded::Joined(_) => None,
        }
    }

    #[tokio::test]
    async fn all_who_come_before_the_outcome_get_it() {
        let (flights, generations) = (Flights::new(), Generations::new());
        let generation = generations.current("/a");
        let ticket = first(flights.board(&key("/a"), generation)).unwrap();
        let Boarded::Joined(mut joined) = flights.board(&key("/a"), generation) else { panic!("asked twice") };
        assert!(first(flights.board(&key("/b"), generation)).is_some(), "another key");
        flights.land(&ticket, 1);
        assert_eq!(*joined.wait_for(Option::is_some).await.unwrap(), Some(1));
        assert!(first(flights.board(&key("/a"), generation)).is_some(), "it has ended");
    }

    #[tokio::test]
    async fn after_a_purge_it_is_asked_anew() {
        let (flights, generations) = (Flights::new(), Generations::new());
        let older = first(flights.board(&key("/a"), generations.current("/a"))).unwrap();
        generations.purge("/a");
        let newer = first(flights.board(&key("/a"), generations.current("/a"))).expect("a question of its own");
        // The end of the older one is not the end of the newer one.
        flights.land(&older, 1);
        let Boarded::Joined(mut joined) = flights.board(&key("/a"), generations.current("/a")) else {
            panic!("asked a third time")
        };
        flights.land(&newer, 2);
        assert_eq!(*joined.wait_for(Option::is_some).await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn whoever_goes_without_a_word_keeps_nobody_waiting() {
        let (flights, generations) = (Flights::<u8>::new(), Generations::new());
        let generation = generations.current("/a");
        let ticket = first(flights.board(&key("/a"), generation)).unwrap();
        let Boarded::Joined(mut joined) = flights.board(&key("/a"), generation) else { panic!("asked twice") };
        drop(ticket);
        assert!(joined.wait_for(Option::is_some).await.is_err());
        assert!(first(flights.board(&key("/a"), generation)).is_some());
    }
}
