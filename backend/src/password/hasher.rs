//! The bounded pool in which passwords are hashed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::check::{Checker, Outcome};
use super::{Password, Settings};

/// How much less than everything else hashing counts where both want a core, as Linux measures
/// it (`nice(2)`). A hash is tens of milliseconds of work at the request of strangers: what is
/// answered in one must not wait for it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Hashes passwords on threads of their own: so many at once, so many waiting, and no more.
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
    /// The hash could not be computed: no randomness, no memory, or a thread that died.
    #[error("the password could not be hashed")]
    Failed,
}

/// How busy the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Hashes being computed.
    pub running: usize,
    /// Hashes waiting for their turn.
    pub waiting: usize,
}

impl Hasher {
    /// Builds the pool.
    ///
    /// # Errors
    /// Parameters that argon2 does not take (RFC 9106, section 3.1).
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

    /// A new stored value for `password`.
    ///
    /// # Errors
    /// [`Busy`]; nothing was hashed.
    pub async fn hash(&self, password: Password) -> Result<String, Busy> {
        self.run(move |checker| checker.hash(&password)).await?.map_err(|_| Busy::Failed)
    }

    /// Checks `password` against the stored value. `None`, for a user that is not there
    /// or is disabled, costs as much and never matches.
    ///
    /// # Errors
    /// [`Busy`]; nothing was checked.
    pub async fn verify(&self, password: Password, stored: Option<String>) -> Result<Outcome, Busy> {
        self.run(move |checker| checker.verify(&password, stored.as_deref())).await
    }

    /// Whether a hash that was asked for now would be computed. It may be full by the time it is
    /// asked for, so this is for what need not be done where it is full already.
    ///
    /// # Errors
    /// [`Busy::Full`].
    pub fn check_capacity(&self) -> Result<(), Busy> {
        let full = self.turns.available_permits() == 0 && self.waiting.load(Ordering::Relaxed) >= self.queue;
        if full { Err(Busy::Full) } else { Ok(()) }
    }

    /// How busy the pool is now.
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
        // A thread costs a thousandth of what it is for, and takes its priority with it.
        let thread = std::thread::Builder::new().name("password".to_owned()).spawn(move || {
            give_way();
            let outcome = job(&checker);
            // The turn ends with the work, also where the client has left in the meantime, and
            // before anybody hears of it.
            drop(turn);
            let _ = done.send(outcome);
        });
        // The thread needs no one to wait for it; dropped without a word, it has failed.
        drop(thread.map_err(|_| Busy::Failed)?);
        result.await.map_err(|_| Busy::Failed)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _place = QueueSlot::take(&self.waiting, self.queue).ok_or(Busy::Full)?;
        Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Busy::Failed)
    }
}

/// Lets everything else go first. On Linux a priority is a thread's, elsewhere its process's.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        // Hashing is right at any priority.
        tracing::debug!(%error, "a hashing thread keeps its priority");
    }
}

/// A place in the queue, given back when it is dropped.
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
    async fn past_the_queue_the_answer_is_busy_at_once() {
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
    async fn a_client_that_leaves_gives_its_place_back() {
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
