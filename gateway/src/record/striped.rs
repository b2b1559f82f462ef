//! Counts that every worker updates and that are rarely read. Each thread adds to its own stripe, in cache
//! lines that no other thread writes to, which avoids contention on each request. Reading sums the stripes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Number of stripes. With more threads, some share a stripe, which is slower but counts correctly.
const STRIPES: usize = 16;

/// Number of counts per [`Line`].
const LINE: usize = 16;

/// Two cache lines, since processors prefetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// Counts, identified by their index. Each takes 8 bytes per stripe.
pub(super) struct Striped {
    stripes: [Arc<[Line]>; STRIPES],
}

impl Striped {
    /// Creates `count` counts, all 0.
    pub(super) fn new(count: usize) -> Self {
        let stripe = || (0..count.div_ceil(LINE)).map(|_| Line::default()).collect();
        Self { stripes: std::array::from_fn(|_| stripe()) }
    }

    /// The stripe of this thread.
    pub(super) fn own(&self) -> Own<'_> {
        Own(self.stripe())
    }

    /// Increments the count at `place` until the guard is dropped.
    pub(super) fn hold(&self, place: usize) -> Held {
        let stripe = self.stripe();
        Own(stripe).add(place, 1);
        Held { stripe: Arc::clone(stripe), place }
    }

    /// The count at `place`, summed over all stripes.
    pub(super) fn sum(&self, place: usize) -> u64 {
        let counts = self.stripes.iter().filter_map(|stripe| count(stripe, place));
        counts.fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }

    fn stripe(&self) -> &Arc<[Line]> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let [first, ..] = &self.stripes;
        // A thread that is ending has no number.
        let thread = THREAD.try_with(|thread| *thread).unwrap_or_default();
        self.stripes.get(thread % STRIPES).unwrap_or(first)
    }
}

fn count(stripe: &[Line], place: usize) -> Option<&AtomicU64> {
    stripe.get(place / LINE)?.0.get(place % LINE)
}

/// The stripe of a thread.
#[derive(Clone, Copy)]
pub(super) struct Own<'a>(&'a [Line]);

impl Own<'_> {
    /// Adds to the count at `place`.
    pub(super) fn add(self, place: usize, number: u64) {
        if let Some(count) = count(self.0, place) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }
}

/// Guard of an increment. Dropping it, on any thread, decrements the count in the same stripe.
pub(super) struct Held {
    stripe: Arc<[Line]>,
    place: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(count) = count(&self.stripe, self.place) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_sum_includes_all_threads_and_other_counts_are_unchanged() {
        let counts = Striped::new(2 * LINE + 1);
        thread::scope(|scope| {
            for _ in 0..3 * STRIPES {
                scope.spawn(|| (0..100).for_each(|_| counts.own().add(LINE, 2)));
            }
        });
        let sums: Vec<_> = (0..2 * LINE + 1).map(|place| counts.sum(place)).filter(|sum| *sum > 0).collect();
        assert_eq!((counts.sum(LINE), sums.len()), (9600, 1));
    }

    #[test]
    fn a_guard_counts_until_it_is_dropped_on_any_thread() {
        let counts = Striped::new(1);
        let held: Vec<_> = (0..3).map(|_| counts.hold(0)).collect();
        assert_eq!(counts.sum(0), 3);
        thread::scope(|scope| scope.spawn(move || drop(held)).join().unwrap());
        assert_eq!(counts.sum(0), 0);
    }
}
