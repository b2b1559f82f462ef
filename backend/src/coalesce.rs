//! Coalesces concurrent calls for the same key into one.
//!
//! This is not a cache: the result goes to the callers that are waiting, and is dropped with the last of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// The calls in progress. There are at most as many as callers that wait.
pub(crate) struct Coalescer<K, V> {
    running: Arc<Mutex<Calls<K, V>>>,
}

struct Calls<K, V> {
    /// Weak, so that a call without waiters is cancelled.
    work: HashMap<K, (u64, WeakShared<BoxFuture<'static, V>>)>,
    /// Increases with each call, to distinguish successive calls for one key.
    number: u64,
}

impl<K, V> Coalescer<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self { running: Arc::new(Mutex::new(Calls { work: HashMap::new(), number: 0 })) }
    }

    /// The result of the call in progress for `key`, or of `begin` if there is none.
    pub(crate) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Shared<BoxFuture<'static, V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(work) = running.work.get(&key).and_then(|(_, work)| work.upgrade()) {
            return work;
        }
        running.number += 1;
        let remove = RemoveWhenDone { running: Arc::clone(&self.running), key: key.clone(), number: running.number };
        let work = begin();
        let work = async move {
            // Dropped with the future, also when no waiter is left.
            let _remove = remove;
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

/// Removes a call from the table when it ends.
struct RemoveWhenDone<K: Eq + Hash, V> {
    running: Arc<Mutex<Calls<K, V>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for RemoveWhenDone<K, V> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if running.work.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            running.work.remove(&self.key);
        }
    }
}

fn lock<K, V>(running: &Mutex<Calls<K, V>>) -> MutexGuard<'_, Calls<K, V>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> fmt::Debug for Coalescer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").field("running", &lock(&self.running).work.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A call that ends when `gate` is notified, and counts its starts and ends.
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
        let (coalescer, work) = (Coalescer::new(), Arc::new(Work::default()));
        let join = |key: &'static str| coalescer.join(key, || Arc::clone(&work).run());
        let waiters: Vec<_> = (0..1000).map(|_| tokio::spawn(join("a"))).collect();
        let other = join("b");
        work.gate.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), 0);
        }
        assert_eq!(lock(&coalescer.running).work.len(), 1, "the other's");
        work.gate.notify_one();
        work.gate.notified().now_or_never();
        drop(other);
        let later = join("a");
        work.gate.notify_one();
        assert_eq!(later.await, 1);
        assert_eq!((work.begun.load(Ordering::Relaxed), lock(&coalescer.running).work.len()), (2, 0));
    }

    #[tokio::test]
    async fn work_continues_while_a_waiter_remains_and_is_cancelled_without_one() {
        let (coalescer, work) = (Coalescer::new(), Arc::new(Work::default()));
        let join = || coalescer.join("a", || Arc::clone(&work).run());
        let (mut first, second) = (join(), join());
        assert!((&mut first).now_or_never().is_none(), "it has begun");
        drop(first);
        work.gate.notify_one();
        assert_eq!(second.await, 0);

        let mut alone = join();
        assert!((&mut alone).now_or_never().is_none());
        drop(alone);
        assert_eq!(lock(&coalescer.running).work.len(), 0);
        assert_eq!((work.begun.load(Ordering::Relaxed), work.ended.load(Ordering::Relaxed)), (2, 1));
    }
}
