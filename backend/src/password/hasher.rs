//! The bounded pool that hashes passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::check::{Checker, Outcome};
use super::{Password, Settings};

/// The `nice(2)` value of hashing threads on Linux. A hash is tens of milliseconds of work at the request of
/// unauthenticated clients; requests that take one millisecond must not wait for it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Hashes passwords on separate threads, with bounded concurrency and a bounded queue.
#[derive(Clone, Debug)]
pub struct Hasher {
    checker: Arc<Checker>,
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    concurrency: usize,
    queue: usize,
}

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The queue is full.
    #[error("too many passwords are being checked")]
    Full,
    /// The hash could not be computed: no randomness, no memory, or a panic.
    #[error("the password could not be hashed")]
    Failed,
}

/// The load of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Hashes being computed.
    pub running: usize,
    /// Hashes waiting in the queue.
    pub waiting: usize,
}

impl Hasher {
    /// Creates the pool.
    ///
    /// # Errors
    /// Invalid parameters of argon2 (RFC 9106, section 3.1).
    pub fn new(settings: &Settings) -> Result<Self, argon2::Error> {
        let concurrency = settings.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            checker: Arc::new(Checker::new(settings)?),
            turns: Arc::new(Semaphore::new(concurrency)),
            waiting: Arc::new(AtomicUsize::new(0)),
            concurrency,
            queue: settings.queue,
        })
    }

    /// Hashes a new `password`.
    ///
    /// # Errors
    /// [`Busy`]; nothing was hashed.
    pub async fn hash(&self, password: Password) -> Result<String, Busy> {
        self.run(move |checker| checker.hash(&password)).await?.map_err(|_| Busy::Failed)
    }

    /// Checks `password` against the stored value. `None`, for an unknown or disabled user, costs as much and never
    /// matches.
    ///
    /// # Errors
    /// [`Busy`]; nothing was checked.
    pub async fn verify(&self, password: Password, stored: Option<String>) -> Result<Outcome, Busy> {
        self.run(move |checker| checker.verify(&password, stored.as_deref())).await
    }

    /// Whether the queue has capacity now. It may be full by the time a hash is requested; this only avoids work when
    /// it is full already.
    ///
    /// # Errors
    /// [`Busy::Full`].
    pub fn check_capacity(&self) -> Result<(), Busy> {
        let full = self.turns.available_permits() == 0 && self.waiting.load(Ordering::Relaxed) >= self.queue;
        if full { Err(Busy::Full) } else { Ok(()) }
    }

    /// The current load.
    pub fn load(&self) -> Load {
        Load {
            running: self.concurrency.saturating_sub(self.turns.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Checker) -> T + Send + 'static) -> Result<T, Busy> {
        let turn = self.turn().await?;
        let checker = Arc::clone(&self.checker);
        let (done, result) = oneshot::channel();
        // Starting a thread costs a thousandth of a hash, and its priority ends with it.
        let thread = std::thread::Builder::new().name("password".to_owned()).spawn(move || {
            lower_priority();
            let outcome = job(&checker);
            // The permit is released when the work ends, even if the client disconnected, and before the result is
            // visible.
            drop(turn);
            let _ = done.send(outcome);
        });
        // The thread is detached; if the sender is dropped without a result, it has failed.
        drop(thread.map_err(|_| Busy::Failed)?);
        result.await.map_err(|_| Busy::Failed)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _slot = QueueSlot::take(&self.waiting, self.queue).ok_or(Busy::Full)?;
        Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Busy::Failed)
    }
}

/// Lowers the priority. On Linux it belongs to a thread, elsewhere to the process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        // Hashing works at any priority.
        tracing::debug!(%error, "the priority of a hashing thread could not be lowered");
    }
}

/// A slot in the queue, released when it is dropped.
struct QueueSlot<'a>(&'a AtomicUsize);

impl<'a> QueueSlot<'a> {
    fn take(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let one_more = |waiting: usize| (waiting < queue).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(queue: usize) -> Hasher {
        let settings = Settings { memory_kib: 64, iterations: 1, parallelism: 1, concurrency: 1, queue, upgrade: true };
        Hasher::new(&settings).unwrap()
    }

    fn password() -> Password {
        Password::new("password01".to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_full_queue_is_reported_at_once() {
        let hasher = hasher(1);
        let turn = hasher.turn().await.unwrap();
        let waiting = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.hash(password()).await }
        });
        while hasher.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hasher.load(), Load { running: 1, waiting: 1 });
        assert_eq!(hasher.hash(password()).await, Err(Busy::Full));
        assert_eq!(hasher.check_capacity(), Err(Busy::Full));
        drop(turn);
        assert!(waiting.await.unwrap().unwrap().starts_with("$argon2id$"));
        assert_eq!(hasher.load(), Load { running: 0, waiting: 0 });
        assert_eq!(hasher.check_capacity(), Ok(()));
    }

    #[tokio::test]
    async fn a_client_that_disconnects_frees_its_slot() {
        let hasher = hasher(1);
        let _turn = hasher.turn().await.unwrap();
        let waiting = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.hash(password()).await }
        });
        while hasher.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(hasher.load().waiting, 0);
    }

    #[test]
    fn a_password_is_bounded_and_never_shown() {
        assert!(Password::new("x".repeat(1025)).is_err());
        assert_eq!(format!("{:?}", password()), "[password]");
    }
}
