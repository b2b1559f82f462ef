//! Who wakes the task of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// By what a connection is woken. While its requests are being polled they wake it with all they
/// say; since it is polled right after them, the task need not be woken once more for that.
#[derive(Debug, Default)]
pub(super) struct ConnectionWaker {
    /// The task that polls the connection and its requests.
    task: AtomicWaker,
    is_held: AtomicBool,
    was_woken: AtomicBool,
}

impl ConnectionWaker {
    /// The waker to poll the connection with, as long as its task is that of `task`.
    pub(super) fn register(self: &Arc<Self>, task: &Waker) -> Waker {
        self.task.register(task);
        Waker::from(Arc::clone(self))
    }

    /// Only notes from now on that it was woken.
    pub(super) fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    /// Wakes the task from now on. Whether it was woken meanwhile, so that the connection has to be
    /// polled again.
    pub(super) fn release(&self) -> bool {
        self.is_held.store(false, Ordering::SeqCst);
        // Whoever comes after the store wakes the task; who came before is seen here.
        self.was_woken.swap(false, Ordering::SeqCst)
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_held.load(Ordering::SeqCst) {
            self.was_woken.store(true, Ordering::SeqCst);
            // It may have been released between the two.
            if self.is_held.load(Ordering::SeqCst) {
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
    fn the_task_is_woken_unless_that_is_held() {
        let (connection, counter) = (Arc::new(ConnectionWaker::default()), Arc::new(Counter::default()));
        let task = Waker::from(Arc::clone(&counter));
        connection.register(&task).wake();
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        connection.hold();
        assert!(!connection.release());
        let waker = connection.register(&task);
        connection.hold();
        waker.wake_by_ref();
        assert!(connection.release());
        assert!(!connection.release());
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        waker.wake();
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }
}
