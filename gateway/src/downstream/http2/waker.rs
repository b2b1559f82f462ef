//! The waker of a connection task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker with which a connection is polled. Requests wake their connection whenever they write. While they
/// are being polled, such wake-ups are only recorded: the connection is polled right afterwards anyway, so the
/// task need not be woken again.
#[derive(Debug, Default)]
pub(super) struct ConnectionWaker {
    /// The task that polls the connection and its requests.
    task: AtomicWaker,
    is_held: AtomicBool,
    was_woken: AtomicBool,
}

impl ConnectionWaker {
    /// Returns the waker for polling the connection in the task of `task`.
    pub(super) fn register(self: &Arc<Self>, task: &Waker) -> Waker {
        self.task.register(task);
        Waker::from(Arc::clone(self))
    }

    /// Starts recording wake-ups instead of waking the task.
    pub(super) fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    /// Resumes waking the task. Returns whether a wake-up was recorded, so that the connection has to be polled
    /// again.
    pub(super) fn release(&self) -> bool {
        self.is_held.store(false, Ordering::SeqCst);
        // A wake-up after the store wakes the task; an earlier one is seen here.
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
            // The waker may have been released in between.
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
    fn wakeups_are_recorded_while_held() {
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
