//! The command that requests an upgrade of a running program and waits for its result.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::history::{Failure, Page};
use crate::listening::Address;

/// The path of the page that reports the state.
pub const PAGE: &str = "/upgrade";

/// The timeout of each request for the page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the page may be unreadable before the program counts as ended.
const UNREADABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two requests for the page.
const INTERVAL: Duration = Duration::from_millis(50);

/// The maximum size of a response, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why the program was not upgraded.
#[derive(Debug, thiserror::Error)]
pub enum NotRequested {
    /// The page cannot be read.
    #[error("cannot read http://{address}{PAGE}: {error}")]
    Page {
        /// The listener.
        address: Address,
        /// The problem.
        error: io::Error,
    },
    /// The process cannot be notified.
    #[error("process {process} cannot be sent SIGUSR2: {error}")]
    Signal {
        /// Its id.
        process: u32,
        /// The problem.
        error: io::Error,
    },
    /// It is process 1 of a container. Outside, that is another process.
    #[error("the program is process 1 of a container, which would end with it: replace the container instead")]
    FirstProcess,
    /// The program continues to serve as before.
    #[error("process {process} continues to serve: the upgrade {}: {}", .failure.result, .failure.reason)]
    Unsuccessful {
        /// Its id.
        process: u32,
        /// The result.
        failure: Failure,
    },
    /// Another process serves, but not because of this upgrade.
    #[error("process {before} was replaced by process {after}, but not by an upgrade")]
    Replaced {
        /// The id of the process that was to be upgraded.
        before: u32,
        /// That of the process that serves now.
        after: u32,
    },
    /// No result in time.
    #[error("no result after {} s: process {process} still serves", .limit.as_secs_f64())]
    TimedOut {
        /// The id of the process.
        process: u32,
        /// The limit.
        limit: Duration,
    },
}

/// Requests an upgrade of the program that serves [`PAGE`] at `address`, with SIGUSR2, and waits for the result for at most
/// `limit`. Returns the new process's page.
///
/// # Errors
/// [`NotRequested`].
pub fn request_upgrade(address: &Address, limit: Duration) -> Result<Page, NotRequested> {
    let read = || read_page(address).map_err(|error| NotRequested::Page { address: address.clone(), error });
    let before = read()?;
    let process = before.process;
    if process == 1 {
        return Err(NotRequested::FirstProcess);
    }
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
    id.and_then(|id| kill_process(id, Signal::USR2))
        .map_err(|error| NotRequested::Signal { process, error: error.into() })?;
    let until = Instant::now() + limit;
    let mut unreadable_since = None;
    loop {
        // While the listener changes hands, the old process may close a connection without a response.
        let now = match read() {
            Ok(now) => now,
            // Since the first failure, not since the last success: a single read may take longer than this under load.
            Err(error) if unreadable_since.get_or_insert_with(Instant::now).elapsed() >= UNREADABLE_TIMEOUT => {
                return Err(error);
            }
            Err(_) => {
                thread::sleep(INTERVAL);
                continue;
            }
        };
        unreadable_since = None;
        if now.process != process {
            return if now.predecessor == Some(process) {
                Ok(now)
            } else {
                Err(NotRequested::Replaced { before: process, after: now.process })
            };
        }
        if let Some(failure) = now.last.filter(|_| now.unsuccessful != before.unsuccessful) {
            return Err(NotRequested::Unsuccessful { process, failure });
        }
        if Instant::now() >= until {
            return Err(NotRequested::TimedOut { process, limit });
        }
        thread::sleep(INTERVAL);
    }
}

/// Reads the page of the program that listens on `address`.
///
/// # Errors
/// There is no response, or not the page.
pub fn read_page(address: &Address) -> io::Result<Page> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PAGE_TIMEOUT)?;
            stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
            stream.set_write_timeout(Some(PAGE_TIMEOUT))?;
            exchange(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
            stream.set_write_timeout(Some(PAGE_TIMEOUT))?;
            exchange(stream)
        }
    }
}

fn exchange(mut stream: impl Read + Write) -> io::Result<Page> {
    stream.write_all(format!("GET {PAGE} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut response = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut response)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the response is not the page of upgrades");
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(invalid)?;
    let is_ok = response.starts_with(b"HTTP/1.0 200 ") || response.starts_with(b"HTTP/1.1 200 ");
    let body = response.get(end + 4..).filter(|_| is_ok).ok_or_else(invalid)?;
    serde_json::from_slice(body).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Serves the responses, one for each connection.
    fn serve(responses: Vec<String>) -> Address {
        serve_after(Duration::ZERO, responses)
    }

    /// The same, with a pause before each response.
    fn serve_after(pause: Duration, responses: Vec<String>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        thread::spawn(move || {
            for response in responses {
                let (mut client, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let length = client.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /upgrade HTTP/1.0\r\n"));
                thread::sleep(pause);
                client.write_all(response.as_bytes()).unwrap();
            }
        });
        address
    }

    fn page(process: u32, predecessor: Option<u32>, failures: u64) -> String {
        let last = Some(Failure { result: "failed".to_owned(), reason: "why".to_owned() }).filter(|_| failures > 0);
        let page = Page { process, predecessor, draining: Vec::new(), unsuccessful: failures, last };
        format!("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n{}\n", serde_json::to_string(&page).unwrap())
    }

    /// A process that ends at SIGUSR2, as one without a handler does.
    fn process() -> std::process::Child {
        std::process::Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn result(pages: impl Fn(u32) -> Vec<String>) -> Result<Page, NotRequested> {
        let mut child = process();
        let result = request_upgrade(&serve(pages(child.id())), Duration::from_secs(60));
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(12), "{status}");
        result
    }

    #[test]
    fn the_result_is_that_of_this_upgrade() {
        // An empty response: the old process closes a connection without one while it stops.
        let new = result(|id| vec![page(id, None, 1), page(id, None, 1), String::new(), page(7, Some(id), 0)]).unwrap();
        assert_eq!((new.process, new.unsuccessful), (7, 0));
        let failed = result(|id| vec![page(id, None, 1), page(id, None, 1), page(id, None, 2)]).unwrap_err();
        assert!(failed.to_string().ends_with("continues to serve: the upgrade failed: why"), "{failed}");
        let replaced = result(|id| vec![page(id, None, 0), page(7, Some(8), 0)]);
        assert!(matches!(replaced, Err(NotRequested::Replaced { after: 7, .. })));
        let gone = result(|id| vec![page(id, None, 0)]);
        assert!(matches!(gone, Err(NotRequested::Page { .. })));
    }

    #[test]
    fn one_failed_read_is_not_the_end_however_long_it_takes() {
        let mut child = process();
        let id = child.id();
        let pages = vec![page(id, None, 0), String::new(), page(7, Some(id), 0)];
        let address = serve_after(UNREADABLE_TIMEOUT + INTERVAL, pages);
        assert_eq!(request_upgrade(&address, Duration::from_secs(60)).unwrap().process, 7);
        child.wait().unwrap();
    }

    #[test]
    fn no_process_is_signalled_without_the_page() {
        for response in ["", "HTTP/1.0 404 Not Found\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n{}", "HTTP/1.0 200 OK\r\n"] {
            let result = request_upgrade(&serve(vec![response.to_owned()]), Duration::from_secs(60));
            assert!(matches!(result, Err(NotRequested::Page { .. })), "{response}");
        }
    }

    #[test]
    fn an_impossible_process_id_is_an_error() {
        let result = |id| request_upgrade(&serve(vec![page(id, None, 0)]), Duration::from_secs(60));
        for id in [0, u32::MAX] {
            assert!(matches!(result(id), Err(NotRequested::Signal { .. })), "{id}");
        }
        assert!(matches!(result(1), Err(NotRequested::FirstProcess)));
    }
}
