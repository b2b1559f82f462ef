//! Counts to which every worker adds and which are seldom read. Each thread adds to a stripe of its
//! own, in memory that no other thread writes to, so that workers do not take it from each other
//! for every request; whoever reads adds the stripes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More threads than these share stripes, which costs them time and no count.
const STRIPES: usize = 16;

/// Counts that lie together.
const LINE: usize = 16;

/// Memory that processors pass around as a whole: two cache lines, since they fetch pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// Some counts, each known by its place. All of them take 16 times 8 bytes each.
pub(super) struct Striped {
    stripes: [Arc<[Line]>; STRIPES],
}

impl Striped {
    /// So many counts, all 0.
    pub(super) fn new(count: usize) -> Self {
        let stripe = || (0..count.div_ceil(LINE)).map(|_| Line::default()).collect();
        Self { stripes: std::array::from_fn(|_| stripe()) }
    }

    /// The counts that this thread adds to.
    pub(super) fn own(&self) -> Own<'_> {
        Own(self.stripe())
    }

    /// Adds one to the count at `place` until the guard is dropped.
    pub(super) fn hold(&self, place: usize) -> Held {
        let stripe = self.stripe();
        Own(stripe).add(place, 1);
        Held { stripe: Arc::clone(stripe), place }
    }

    /// The count at `place`, of all threads.
    pub(super) fn sum(&self, place: usize) -> u64 {
        let counts = self.stripes.iter().filter_map(|stripe| count(stripe, place));
        // A thread may take from its stripe what another has added to its own.
        counts.fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }

    fn stripe(&self) -> &Arc<[Line]> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let [first, ..] = &self.stripes;
        // A thread that is ending has no number any more.
        let thread = THREAD.try_with(|thread| *thread).unwrap_or_default();
        self.stripes.get(thread % STRIPES).unwrap_or(first)
    }
}

fn count(stripe: &[Line], place: usize) -> Option<&AtomicU64> {
    stripe.get(place / LINE)?.0.get(place % LINE)
}

/// The counts of a thread.
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

/// One that is counted. It takes itself from the stripe to which it was added, on whatever thread.
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
    fn what_any_thread_adds_is_in_the_sum_and_in_no_other() {
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
    fn what_is_held_is_counted_until_it_is_dropped_wherever_that_is() {
        let counts = Striped::new(1);
        let held: Vec<_> = (0..3).map(|_| counts.hold(0)).collect();
        assert_eq!(counts.sum(0), 3);
        thread::scope(|scope| scope.spawn(move || drop(held)).join().unwrap());
        assert_eq!(counts.sum(0), 0);
    }
}
