//! Many requests over few connections to a backend that closes them at random, on a network in memory with a paused
//! clock: each seed yields one order of events.

use std::sync::{Mutex, MutexGuard};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::upstream::address::UpstreamPeer;
use crate::upstream::memory::Network;

const MAX_CONNECTIONS: usize = 4;

const SEEDS: u64 = 40;

/// Concurrent requests of each client.
const TASKS: usize = 10;

const REQUESTS: usize = 40;

/// Far longer than a request takes, and far below the connect timeout.
const SOON: Duration = Duration::from_millis(500);

/// Random choices (SplitMix64).
#[derive(Clone)]
struct Random(Arc<Mutex<u64>>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn below(&self, bound: u64) -> u64 {
        let mut state: MutexGuard<'_, u64> = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }

    fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A time below `millis` milliseconds.
    fn time(&self, millis: u64) -> Duration {
        Duration::from_micros(self.below(millis * 1000))
    }
}

/// Responds to the first request of a connection, and to others until it closes the connection: while it is idle, when
/// a request arrives, or instead of a response.
async fn serve(stream: DuplexStream, random: Random) {
    let (mut stream, mut is_first) = (stream, true);
    loop {
        let closing = if !is_first && random.one_in(4) { random.time(5) } else { AGES };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            tokio::select! {
                biased;
                () = sleep(closing) => return,
                byte = stream.read_u8() => match byte {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                },
            }
        }
        sleep(random.time(2)).await;
        if !is_first && random.one_in(10) {
            return;
        }
        is_first = false;
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

async fn accept(mut listener: mpsc::UnboundedReceiver<DuplexStream>, random: Random) {
    let mut open = JoinSet::new();
    while let Some(stream) = listener.recv().await {
        open.spawn(serve(stream, random.clone()));
    }
}

/// Sends one request after the other; some are cancelled.
async fn request_often(client: UpstreamClient, random: Random) {
    for _ in 0..REQUESTS {
        // Sometimes a pause is longer than the limit for a request.
        sleep(if random.one_in(20) { 3 * SOON } else { random.time(5) }).await;
        let began = Instant::now();
        let request = async {
            let answer = get(&client, "/").await?;
            assert_eq!(text(answer).await, "ok");
            Ok::<_, UpstreamError>(())
        };
        if random.one_in(6) {
            // Either result is right.
            let _ = timeout(random.time(3), request).await;
        } else {
            request.await.unwrap();
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

/// Runs these clients of one backend, each with its own connections.
async fn churn(seed: u64, clients: &[fn(Arc<Upstream>) -> UpstreamClient]) {
    let random = Random::new(seed);
    let (network, listener) = Network::new();
    let accepting = tokio::spawn(accept(listener, random.clone()));
    let settings = Settings {
        connect_timeout: Duration::from_secs(1),
        read_timeout: AGES,
        request_timeout: AGES,
        idle_timeout: Duration::from_secs(5),
        max_connections: u32::try_from(MAX_CONNECTIONS).unwrap(),
    };
    let upstream = Upstream::new("api", "127.0.0.1:1".parse().unwrap(), settings);
    upstream.replace(0, vec![UpstreamPeer::Memory(network.clone())]);
    let upstream = Arc::new(upstream);
    let clients: Vec<_> = clients.iter().map(|client| client(Arc::clone(&upstream))).collect();
    let mut tasks = JoinSet::new();
    for client in &clients {
        for _ in 0..TASKS {
            tasks.spawn(request_often(client.clone(), random.clone()));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(network.most_open() <= MAX_CONNECTIONS, "seed {seed}: {}", network.most_open());
    drop(clients);
    assert_eq!(network.open(), 0, "seed {seed}");
    accepting.abort();
}

#[tokio::test(start_paused = true)]
async fn every_request_gets_its_response_within_the_limit_in_any_order_of_events() {
    for seed in 0..SEEDS {
        churn(seed, &[UpstreamClient::new]).await;
    }
}

/// An idle connection of one is closed if the other needs it.
#[tokio::test(start_paused = true)]
async fn clients_of_one_backend_share_its_connections() {
    for seed in 0..SEEDS {
        churn(seed, &[UpstreamClient::new, UpstreamClient::new]).await;
    }
}
