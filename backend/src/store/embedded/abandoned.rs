//! Reads that end soon after their caller is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::ReadTransaction;

use super::Embedded;
use crate::store::StoreError;

/// Whether the caller of a read was dropped, as at a timeout. The read continues on its thread, and must end soon, since it
/// takes the place of another.
#[derive(Clone, Default)]
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Abandons its read when it is dropped.
struct Caller(Abandoned);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Embedded {
    /// [`Embedded::read`] of unbounded work, which must end when it finds that it is abandoned.
    pub(super) async fn read_for_caller<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction, &Abandoned) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let abandoned = Abandoned::default();
        let _caller = Caller(abandoned.clone());
        self.read(move |transaction| work(transaction, &abandoned)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{Opening, READERS};
    use super::*;

    /// Longer than anything in this test takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_read_ends_after_the_timeout_of_its_caller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let engine = Embedded::open(&path, Opening::Checked, PATIENCE, Arc::default()).await.unwrap();
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let reading = engine.read_for_caller(move |_, abandoned| {
            let _ = begun.send(());
            let started = Instant::now();
            while !abandoned.get() && started.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            Ok(())
        });
        // It reads until the caller is dropped, as by the time limit of a search.
        tokio::select! {
            ended = reading => panic!("{ended:?}"),
            begun = beginning => begun.unwrap(),
        }
        let all = tokio::time::timeout(PATIENCE / 2, engine.readers.acquire_many(READERS)).await;
        assert!(all.is_ok(), "the read has not ended");
    }
}
