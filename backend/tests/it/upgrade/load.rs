//! Clients that read and write all the time, each on a kept-alive connection, and count.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use holodule_backend::server::Address;

use super::running::Running;
use crate::program::wait_for;
use crate::service::holodule;

/// Clients of each listener.
const CLIENTS: u32 = 4;
/// The longest time without a response.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running clients.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    responses: Arc<AtomicU32>,
    clients: Vec<JoinHandle<Counts>>,
}

/// What they counted.
#[derive(Default)]
pub(super) struct Counts {
    /// The videos of acknowledged writes.
    pub(super) acknowledged: Vec<String>,
    /// Requests without a response, and unexpected responses.
    pub(super) failures: Vec<String>,
    /// Connections that ended.
    pub(super) closed: usize,
}

impl Load {
    /// `program` listens on TCP.
    pub(super) fn start(program: &Running) -> Self {
        let (Address::Tcp(api), Address::Tcp(admin)) = (&program.api, &program.admin) else { panic!("not TCP") };
        let (stop, responses) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let clients = (0..2 * CLIENTS).map(|client| {
            let (stop, responses) = (Arc::clone(&stop), Arc::clone(&responses));
            let address = if client < CLIENTS { *admin } else { *api };
            std::thread::spawn(move || run(client, address, &stop, &responses))
        });
        Self { clients: clients.collect(), stop, responses }
    }

    /// Waits until each client had some responses.
    pub(super) fn progress(&self) {
        let before = self.responses.load(Ordering::SeqCst);
        let enough = before + 10 * 2 * CLIENTS;
        wait_for("responses", || (self.responses.load(Ordering::SeqCst) >= enough || self.is_over()).then_some(()));
    }

    fn is_over(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    pub(super) fn stop(self) -> Counts {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Counts::default();
        for client in self.clients {
            let counts = client.join().unwrap();
            all.acknowledged.extend(counts.acknowledged);
            all.failures.extend(counts.failures);
            all.closed += counts.closed;
        }
        all
    }
}

fn run(client: u32, address: SocketAddr, stop: &AtomicBool, responses: &AtomicU32) -> Counts {
    let mut counts = Counts::default();
    let mut connection = None;
    for number in (client * 100_000).. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let writes = client < CLIENTS;
        let entry = holodule(number, "20201209 230000");
        let video = entry.video_id.clone().unwrap();
        let request = if writes {
            let body = serde_json::to_string(&entry).unwrap();
            let head = format!("PUT /holodules/{video} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
            format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else {
            "GET /holodules/20201210 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()
        };
        let stream = connection.take().unwrap_or_else(|| BufReader::new(TcpStream::connect(address).unwrap()));
        match exchange(stream, &request) {
            Ok((status, open)) => {
                responses.fetch_add(1, Ordering::SeqCst);
                if writes && status == 201 {
                    counts.acknowledged.push(video);
                } else if status != 404 || writes {
                    counts.failures.push(format!("status {status}"));
                }
                counts.closed += usize::from(open.is_none());
                connection = open;
            }
            Err(error) => {
                counts.failures.push(error.to_string());
                break;
            }
        }
    }
    counts
}

type Open = BufReader<TcpStream>;

/// The status, and the connection unless the response announces its end.
fn exchange(mut stream: Open, request: &str) -> std::io::Result<(u16, Option<Open>)> {
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut closes) = (0, 0, false);
    for at in 0.. {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("closed without a response"));
        }
        let line = line.trim_end().to_ascii_lowercase();
        if at == 0 {
            status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(std::io::Error::other)?;
        }
        closes |= line == "connection: close";
        if line.is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok((status, (!closes).then_some(stream)))
}
