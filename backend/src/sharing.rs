//! One piece of work for all who ask for the same at the same time.
//!
//! This is no cache: what comes out is given to those who waited for it, and to nobody who asks
//! once it is there.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// What is being worked on. There are at most as many pieces of work as there are waiters.
pub(crate) struct Sharing<K, V> {
    running: Arc<Mutex<Running<K, V>>>,
}

struct Running<K, V> {
    /// Held by the waiters alone: work that nobody waits for any more is given up.
    work: HashMap<K, (u64, WeakShared<BoxFuture<'static, V>>)>,
    /// Counts the pieces of work, to tell two of the same key apart.
    number: u64,
}

impl<K, V> Sharing<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Nothing is being worked on yet.
    pub(crate) fn new() -> Self {
        Self { running: Arc::new(Mutex::new(Running { work: HashMap::new(), number: 0 })) }
    }

    /// What comes out of the work for `key` that is going on, or else of `begin`.
    pub(crate) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Shared<BoxFuture<'static, V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(work) = running.work.get(&key).and_then(|(_, work)| work.upgrade()) {
            return work;
        }
        running.number += 1;
        let ending = Ending { running: Arc::clone(&self.running), key: key.clone(), number: running.number };
        let work = begin();
        let work = async move {
            // Dropped with the future where nobody waits for it any more.
            let _ending = ending;
            work.await
        };
        let work = work.boxed().shared();
        if let Some(weak) = work.downgrade() {
            let number = running.number;
            running.work.insert(key, (number, weak));
        }
        work
    }
}

/// Forgets a piece of work when it ends.
struct Ending<K: Eq + Hash, V> {
    running: Arc<Mutex<Running<K, V>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for Ending<K, V> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if running.work.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            running.work.remove(&self.key);
        }
    }
}

fn lock<K, V>(running: &Mutex<Running<K, V>>) -> MutexGuard<'_, Running<K, V>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> fmt::Debug for Sharing<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("running", &lock(&self.running).work.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Work that ends when it is let, and how often it was begun and ended.
    #[derive(Default)]
    struct Work {
        begun: AtomicU32,
        ended: AtomicU32,
        gate: Notify,
    }

    impl Work {
        async fn run(self: Arc<Self>) -> u32 {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            self.gate.notified().await;
            self.ended.fetch_add(1, Ordering::Relaxed);
            number
        }
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_run_and_a_later_one_starts_another() {
        let (sharing, work) = (Sharing::new(), Arc::new(Work::default()));
        let join = |key: &'static str| sharing.join(key, || Arc::clone(&work).run());
        let waiters: Vec<_> = (0..1000).map(|_| tokio::spawn(join("a"))).collect();
        let other = join("b");
        work.gate.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), 0);
        }
        assert_eq!(lock(&sharing.running).work.len(), 1, "the other's");
        work.gate.notify_one();
        work.gate.notified().now_or_never();
        drop(other);
        let later = join("a");
        work.gate.notify_one();
        assert_eq!(later.await, 1);
        assert_eq!((work.begun.load(Ordering::Relaxed), lock(&sharing.running).work.len()), (2, 0));
    }

    #[tokio::test]
    async fn work_continues_while_a_waiter_remains_and_is_cancelled_without_one() {
        let (sharing, work) = (Sharing::new(), Arc::new(Work::default()));
        let join = || sharing.join("a", || Arc::clone(&work).run());
        let (mut first, second) = (join(), join());
        assert!((&mut first).now_or_never().is_none(), "it has begun");
        drop(first);
        work.gate.notify_one();
        assert_eq!(second.await, 0);

        let mut alone = join();
        assert!((&mut alone).now_or_never().is_none());
        drop(alone);
        assert_eq!(lock(&sharing.running).work.len(), 0);
        assert_eq!((work.begun.load(Ordering::Relaxed), work.ended.load(Ordering::Relaxed)), (2, 1));
    }
}
