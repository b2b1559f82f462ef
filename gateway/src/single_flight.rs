//! Coalesces concurrent requests for one key: the first request, the leader, computes the result, and the others wait
//! for it. A result can also be stored for later requests, within a bound.

use std::array;
use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The number of shards. Each has its own lock, so that worker threads rarely contend.
const SHARDS: usize = 16;

/// A table of results in progress and stored results.
///
/// A flight is in the table only while its [`Leader`] exists. No lock is held while a request waits.
pub(crate) struct SingleFlight<K, T> {
    shards: [Arc<Mutex<Shard<K, T>>>; SHARDS],
    hasher: RandomState,
}

struct Shard<K, T> {
    slots: HashMap<K, Slot<T>>,
    /// The keys of stored results, the oldest first. A key that was removed and stored again is in it twice, and is
    /// evicted early.
    stored: VecDeque<K>,
    /// The maximum number of stored results in this shard.
    capacity: usize,
}

enum Slot<T> {
    Stored(T),
    InFlight(watch::Receiver<Option<T>>),
}

/// The result that a request joined: stored, or in progress.
pub(crate) enum Joined<T> {
    Stored(T),
    InFlight(watch::Receiver<Option<T>>),
}

impl<T: Clone> Joined<T> {
    /// Waits for the result. `None` if the leader was dropped without one.
    pub(crate) async fn result(self) -> Option<T> {
        match self {
            Self::Stored(result) => Some(result),
            Self::InFlight(mut receiver) => receiver.wait_for(Option::is_some).await.ok()?.clone(),
        }
    }
}

/// The task that computes the result of a key. If it is dropped without one, the next request becomes the leader.
pub(crate) struct Leader<K: Eq + Hash, T> {
    key: K,
    shard: Arc<Mutex<Shard<K, T>>>,
    sender: watch::Sender<Option<T>>,
}

/// What happens to a result.
pub(crate) enum Completion<T> {
    /// The requests that wait for it get it, and so do later ones. Equal to `Share` if the flight was superseded.
    Store(T),
    /// The requests that wait for it get it.
    Share(T),
}

impl<K: Eq + Hash + Clone, T: Clone> SingleFlight<K, T> {
    /// A table that stores at most `capacity` results, rounded up to a multiple of the shards.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS);
        let shard = |_| Arc::new(Mutex::new(Shard { slots: HashMap::new(), stored: VecDeque::new(), capacity }));
        Self { shards: array::from_fn(shard), hasher: RandomState::new() }
    }

    /// Returns the result of `key`, or a flight that will have it. The caller that gets a [`Leader`] has to complete
    /// the flight.
    pub(crate) fn join(&self, key: &K) -> (Joined<T>, Option<Leader<K, T>>) {
        let shard = self.shard(key);
        let mut locked = lock(shard);
        match locked.slots.get(key) {
            Some(Slot::Stored(result)) => return (Joined::Stored(result.clone()), None),
            Some(Slot::InFlight(receiver)) => return (Joined::InFlight(receiver.clone()), None),
            None => {}
        }
        let (sender, receiver) = watch::channel(None);
        locked.slots.insert(key.clone(), Slot::InFlight(receiver.clone()));
        (Joined::InFlight(receiver), Some(Leader { key: key.clone(), shard: Arc::clone(shard), sender }))
    }

    /// Whether there is a stored result of `key`.
    pub(crate) fn is_stored(&self, key: &K) -> bool {
        matches!(lock(self.shard(key)).slots.get(key), Some(Slot::Stored(_)))
    }

    /// Removes the stored result of `key`, and supersedes the flight in progress.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        lock(self.shard(key)).slots.remove(key);
    }

    /// Removes all stored results and returns them, and supersedes all flights.
    pub(crate) fn take(&self) -> Vec<(K, T)> {
        let mut stored = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.stored.clear();
            stored.extend(shard.slots.drain().filter_map(|(key, slot)| match slot {
                Slot::Stored(result) => Some((key, result)),
                Slot::InFlight(_) => None,
            }));
        }
        stored
    }

    /// The number of keys with a stored result or a flight.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.len()).sum()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Arc<Mutex<Shard<K, T>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        // The index is below the number of shards; the first is never a substitute.
        let [first, ..] = &self.shards;
        self.shards.get(index).unwrap_or(first)
    }
}

impl<K: Eq + Hash + Clone, T: Clone> Leader<K, T> {
    /// Ends the flight with the completion that `decide` returns. It gets whether the flight is current: neither
    /// [`SingleFlight::remove`] nor [`SingleFlight::take`] superseded it. It runs while the shard is locked, so that
    /// a later removal also removes what is stored.
    pub(crate) fn complete(self, decide: impl FnOnce(bool) -> Completion<T>) {
        let mut shard = lock(&self.shard);
        let is_current = self.leads(&shard);
        if is_current {
            shard.slots.remove(&self.key);
        }
        let result = match decide(is_current) {
            Completion::Store(result) => {
                if is_current {
                    shard.store(self.key.clone(), result.clone());
                }
                result
            }
            Completion::Share(result) => result,
        };
        drop(shard);
        self.sender.send_replace(Some(result));
    }
}

impl<K: Eq + Hash, T> Leader<K, T> {
    fn leads(&self, shard: &Shard<K, T>) -> bool {
        let Some(Slot::InFlight(receiver)) = shard.slots.get(&self.key) else { return false };
        receiver.same_channel(&self.sender.subscribe())
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        if self.sender.borrow().is_some() {
            return;
        }
        let mut shard = lock(&self.shard);
        if self.leads(&shard) {
            shard.slots.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone, T> Shard<K, T> {
    /// Stores `result`, and evicts the results that were stored first if there are too many.
    fn store(&mut self, key: K, result: T) {
        self.slots.insert(key.clone(), Slot::Stored(result));
        self.stored.push_back(key);
        while self.stored.len() > self.capacity {
            let Some(oldest) = self.stored.pop_front() else { return };
            // The key may have been removed since, and requested again.
            if matches!(self.slots.get(&oldest), Some(Slot::Stored(_))) {
                self.slots.remove(&oldest);
            }
        }
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves a shard consistent: each change is one call on a collection.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = SingleFlight<Arc<str>, u32>;

    fn lead(table: &Table, key: &str) -> Leader<Arc<str>, u32> {
        table.join(&key.into()).1.expect("a new flight")
    }

    fn follow(table: &Table, key: &str) -> Joined<u32> {
        let (joined, leader) = table.join(&key.into());
        assert!(leader.is_none(), "a second leader");
        joined
    }

    #[tokio::test]
    async fn requests_of_one_key_share_one_result() {
        let table = Table::new(0);
        let leader = lead(&table, "a");
        let followers = [follow(&table, "a"), follow(&table, "a")];
        lead(&table, "b").complete(|_| Completion::Share(2));
        leader.complete(|is_current| Completion::Share(is_current.into()));
        for follower in followers {
            assert_eq!(follower.result().await, Some(1));
        }
        assert_eq!(table.len(), 0);
        lead(&table, "a");
    }

    #[tokio::test]
    async fn a_stored_result_serves_later_requests() {
        let table = Table::new(SHARDS);
        let leader = lead(&table, "a");
        let follower = follow(&table, "a");
        leader.complete(|_| Completion::Store(1));
        assert_eq!(follower.result().await, Some(1));
        assert!(matches!(follow(&table, "a"), Joined::Stored(1)));
    }

    #[tokio::test]
    async fn a_removal_supersedes_the_flight_in_progress() {
        let table = Table::new(10 * SHARDS);
        for remove in [|table: &Table| drop(table.take()), |table: &Table| table.remove("a")] {
            let older = lead(&table, "a");
            let follower = follow(&table, "a");
            remove(&table);
            let newer = lead(&table, "a");
            older.complete(|is_current| {
                assert!(!is_current);
                Completion::Store(1)
            });
            assert_eq!(follower.result().await, Some(1));
            let follower = follow(&table, "a");
            newer.complete(|is_current| {
                assert!(is_current);
                Completion::Store(2)
            });
            assert_eq!(follower.result().await, Some(2));
            assert!(matches!(follow(&table, "a"), Joined::Stored(2)));
            table.remove("a");
        }
    }

    #[tokio::test]
    async fn a_superseded_result_is_not_stored() {
        let table = Table::new(SHARDS);
        let leader = lead(&table, "a");
        table.remove("a");
        leader.complete(|_| Completion::Store(1));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn a_dropped_leader_wakes_its_followers_and_is_replaced() {
        let table = Table::new(0);
        let leader = lead(&table, "a");
        let follower = follow(&table, "a");
        drop(leader);
        assert_eq!(follower.result().await, None);
        assert_eq!(table.len(), 0);
        let older = lead(&table, "a");
        table.remove("a");
        let newer = lead(&table, "a");
        drop(older);
        let follower = follow(&table, "a");
        newer.complete(|_| Completion::Share(1));
        assert_eq!(follower.result().await, Some(1));
    }

    #[tokio::test]
    async fn a_waiting_request_locks_nothing() {
        let table = Table::new(0);
        let leader = lead(&table, "a");
        let waiting = tokio::spawn(follow(&table, "a").result());
        tokio::task::yield_now().await;
        for number in 0..10 * SHARDS {
            lead(&table, &number.to_string()).complete(|_| Completion::Share(2));
        }
        leader.complete(|_| Completion::Share(1));
        assert_eq!(waiting.await.unwrap(), Some(1));
    }

    #[test]
    fn a_million_keys_take_no_more_than_the_capacity() {
        let table = Table::new(10 * SHARDS);
        for number in 0..1_000_000 {
            let key = number.to_string();
            lead(&table, &key).complete(|_| Completion::Store(number));
            if number % 3 == 0 {
                table.remove(key.as_str());
            }
        }
        assert!(table.len() <= 10 * SHARDS, "{}", table.len());
        for shard in &table.shards {
            assert!(lock(shard).stored.len() <= 10);
        }
    }
}
