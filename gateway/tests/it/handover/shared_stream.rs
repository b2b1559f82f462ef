//! An upgrade while shared event streams are open: their listeners end in order, and continue at the new process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::Upgraded;
use crate::fan_out::{CODECS, ROUTES, Service, snapshot};
use crate::stream::{Codec, Stream};
use crate::support::token::token;
use crate::support::until;

/// A client that reconnects when its stream ends, as `EventSource` does.
struct Client {
    codec: Codec,
    /// The number of the last event that its content has; `None` before the first snapshot.
    last: Option<usize>,
    connections: usize,
}

impl Client {
    /// Reads until its content has as many events as `total`. Fails if an event is missing or comes twice.
    async fn read(&mut self, address: SocketAddr, total: &AtomicUsize) {
        let is_complete = |last: Option<usize>| last == Some(total.load(Ordering::SeqCst));
        while !is_complete(self.last) {
            self.connections += 1;
            let user = token("user01");
            let mut stream = match self.last {
                None => Stream::open(self.codec, address, "/news", &user).await,
                Some(last) => Stream::open_after(self.codec, address, "/news", &user, &last.to_string()).await,
            };
            assert_eq!(stream.status, 200, "{}", stream.head);
            let mut text = String::new();
            // Fails if the stream is cut.
            while !is_complete(self.last)
                && let Some(piece) = stream.next().await
            {
                text += &piece;
                while let Some(end) = text.find("\n\n") {
                    let block: String = text.drain(..end + 2).collect();
                    self.receive(&block);
                }
            }
        }
    }

    fn receive(&mut self, block: &str) {
        let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) else { return };
        let id: usize = id.parse().unwrap();
        if block == snapshot(id) {
            assert!(self.last.is_none_or(|last| last <= id), "{block:?} after {:?}", self.last);
        } else {
            assert_eq!(self.last.map(|last| last + 1), Some(id), "{block:?}");
        }
        self.last = Some(id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_reconnect_to_the_new_process_and_miss_no_event() {
    let service = Service::start().await;
    let mut program = Upgraded::start(&service.backend, &service.admin, &[ROUTES, ("DRAIN_TIMEOUT", "2")]).await;
    let (address, total) = (program.https, Arc::new(AtomicUsize::new(usize::MAX)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (codec, total) = (CODECS[number % 2], Arc::clone(&total));
            tokio::spawn(async move {
                let mut client = Client { codec, last: None, connections: 0 };
                client.read(address, &total).await;
                client.connections
            })
        })
        .collect();
    until("all listen", async || program.metric("gateway_shared_stream_listeners").await == 8.0).await;
    let upgrading = async {
        program.upgrade().await;
        program.first_has_ended().await;
        until("all have reconnected", async || program.metric("gateway_shared_stream_listeners").await == 8.0).await;
    };
    let mut count = 0;
    let publishing = async {
        loop {
            service.add();
            count += 1;
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = upgrading => {}
        () = publishing => {}
    }
    total.store(count + 1, Ordering::SeqCst);
    service.add();
    for client in clients {
        assert_eq!(client.await.unwrap(), 2);
    }
    let lines = program.lines();
    let ended: Vec<_> = lines.iter().filter(|line| line["route"] == "news").collect();
    assert!(ended.iter().filter(|line| line["reason"] == "drain" && line["status"] == 200).count() == 8, "{ended:?}");
}
