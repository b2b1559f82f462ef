//! The edge cache as clients and the backend observe it: RFC 9111, RFC 5861 and ops/WIRE.md. No test waits for a
//! response to become stale: the stub sets its `Age`.

mod authentication;
mod coalescing;
mod compression;
mod conditional;
mod forms;
mod key;
mod purge;
mod revalidation;
mod slow_client;
mod stale;
mod storing;

use std::sync::{Arc, Mutex};

use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::client::Answer;
use crate::support::{DAY, Gateway, admin, get, request};

/// Fresh for longer than any test runs.
const FRESH: &str = "public, s-maxage=600";

/// The setting that enables the cache.
const CACHE_ENABLED: (&str, &str) = ("CACHE_MAX_BYTES", "67108864");

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

/// A backend whose response a test can change.
struct Origin {
    backend: Backend,
    script: Arc<Mutex<Script>>,
}

impl Origin {
    async fn start(steps: Vec<Step>) -> Self {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(move |_| steps.clone())));
        let current = Arc::clone(&script);
        let backend = Backend::start(move |seen| {
            let script = Arc::clone(&*current.lock().unwrap());
            script(seen)
        });
        Self { backend: backend.await, script }
    }

    /// Responds with these steps from now on.
    fn respond(&self, steps: Vec<Step>) {
        self.respond_with(move |_| steps.clone());
    }

    /// Responds as `script` does from now on.
    fn respond_with(&self, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// How many requests it has received.
    fn request_count(&self) -> usize {
        self.backend.seen().len()
    }

    /// The last request that it has received.
    fn last_request(&self) -> Seen {
        self.backend.seen().pop().unwrap()
    }
}

/// A gateway with a cache in front of an [`Origin`].
struct Edge {
    gateway: Gateway,
    origin: Origin,
    _admin: Backend,
}

impl Edge {
    async fn start(steps: Vec<Step>) -> Self {
        Self::start_with(steps, &[]).await
    }

    async fn start_with(steps: Vec<Step>, settings: &[(&str, &str)]) -> Self {
        let (origin, admin) = (Origin::start(steps).await, admin().await);
        let settings: Vec<_> = [CACHE_ENABLED].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&origin.backend, &admin, &settings);
        Self { gateway, origin, _admin: admin }
    }

    /// `GET` of [`DAY`] with these headers.
    async fn get(&self, headers: &str) -> Answer {
        self.gateway.exchange(get(DAY, headers)).await
    }

    async fn head(&self, headers: &str) -> Answer {
        self.gateway.exchange(request("HEAD", DAY, headers)).await
    }
}

/// A `200` response with this body, `Cache-Control` and further headers.
fn page(body: &str, control: &str, headers: &[(&str, &str)]) -> Vec<Step> {
    let headers: Vec<_> = [("Cache-Control", control)].into_iter().chain(headers.iter().copied()).collect();
    answer("200 OK", &headers, body)
}

/// The value of `X-Cache`, if present.
fn x_cache(answer: &Answer) -> Option<&str> {
    let values = answer.values("x-cache");
    assert!(values.len() <= 1, "{answer:?}");
    values.first().copied()
}

fn assert_answer(answer: &Answer, status: u16, body: &str, cache: &str) {
    assert_eq!((answer.status, answer.body.as_str(), x_cache(answer)), (status, body, Some(cache)), "{answer:?}");
}
