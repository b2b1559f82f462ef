//! Who wakes the task of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Hears what wakes the connection. While its requests are being run they wake it with all they say;
/// since it is polled right after them, the task need not be woken once more for that.
#[derive(Debug, Default)]
pub(super) struct Ear {
    task: AtomicWaker,
    is_awake: AtomicBool,
    heard: AtomicBool,
}

impl Ear {
    /// What wakes the connection, as long as the task is that of `waker`.
    pub(super) fn listen_for(self: &Arc<Self>, waker: &Waker) -> Waker {
        self.task.register(waker);
        Waker::from(Arc::clone(self))
    }

    /// Only notes from now on that it was woken.
    pub(super) fn stay_awake(&self) {
        self.is_awake.store(true, Ordering::SeqCst);
    }

    /// Wakes the task from now on. Whether something was noted meanwhile.
    pub(super) fn doze(&self) -> bool {
        self.is_awake.store(false, Ordering::SeqCst);
        // Whoever comes after the store wakes the task; who came before is seen here.
        self.heard.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_awake.load(Ordering::SeqCst) {
            self.heard.store(true, Ordering::SeqCst);
            // It may have dozed off between the two.
            if self.is_awake.load(Ordering::SeqCst) {
                return;
            }
        }
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_unless_it_is_awake() {
        let (ear, counter) = (Arc::new(Ear::default()), Arc::new(Counter::default()));
        let task = Waker::from(Arc::clone(&counter));
        ear.listen_for(&task).wake();
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        ear.stay_awake();
        assert!(!ear.doze());
        let waker = ear.listen_for(&task);
        ear.stay_awake();
        waker.wake_by_ref();
        assert!(ear.doze());
        assert!(!ear.doze());
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        waker.wake();
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }
}
