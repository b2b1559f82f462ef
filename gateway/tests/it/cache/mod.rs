//! The edge cache as clients and the backend see it: RFC 9111, RFC 5861, and ops/WIRE.md on what clients
//! are told. Nothing waits for an answer to grow old: the backend says how old it is.

mod authentication;
mod coalescing;
mod conditional;
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

/// Fresh for as long as any test runs.
const FRESH: &str = "public, s-maxage=600";

/// What a test's gateway needs to keep anything.
const KEEPS: (&str, &str) = ("CACHE_MAX_BYTES", "67108864");

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

/// A backend whose answer the test changes as it goes.
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

    /// From now on it answers with these steps.
    fn says(&self, steps: Vec<Step>) {
        self.answers(move |_| steps.clone());
    }

    /// From now on it answers like this.
    fn answers(&self, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.backend.seen().len()
    }

    /// The last request that it saw.
    fn last(&self) -> Seen {
        self.backend.seen().pop().unwrap()
    }
}

/// A gateway that keeps answers, in front of an [`Origin`].
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
        let settings: Vec<_> = [KEEPS].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&origin.backend, &admin, &settings);
        Self { gateway, origin, _admin: admin }
    }

    /// `GET` of the day, with these headers.
    async fn get(&self, headers: &str) -> Answer {
        self.gateway.exchange(get(DAY, headers)).await
    }

    async fn head(&self, headers: &str) -> Answer {
        self.gateway.exchange(request("HEAD", DAY, headers)).await
    }
}

/// A `200` with this body, `Cache-Control` and further headers.
fn page(body: &str, control: &str, headers: &[(&str, &str)]) -> Vec<Step> {
    let headers: Vec<_> = [("Cache-Control", control)].into_iter().chain(headers.iter().copied()).collect();
    answer("200 OK", &headers, body)
}

/// What `X-Cache` says, if it is there.
fn x_cache(answer: &Answer) -> Option<&str> {
    let values = answer.values("x-cache");
    assert!(values.len() <= 1, "{answer:?}");
    values.first().copied()
}

/// Asserts status, body and `X-Cache`.
fn assert_answer(answer: &Answer, status: u16, body: &str, cache: &str) {
    assert_eq!((answer.status, answer.body.as_str(), x_cache(answer)), (status, body, Some(cache)), "{answer:?}");
}
