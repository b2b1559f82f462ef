//! The probe of the `health` command: one request to the ops listener of a running gateway.
//!
//! Containers call it as their health check, so it depends on nothing but the address: neither on a shell or curl in the
//! image, nor on the rest of the configuration, which may have been edited since the gateway read it.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The maximum time for the whole probe. Docker's default timeout is 30 s, Kubernetes' is 1 s.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of a response, in bytes. Another program may listen on the address.
const RESPONSE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a gateway counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// No response.
    #[error("no response from {0}: {1}")]
    NoResponse(SocketAddr, io::Error),
    /// A response that is not HTTP/1.1.
    #[error("the response of {0} is not HTTP")]
    NotHttp(SocketAddr),
    /// Another status than 200.
    #[error("{path} of {address} returned {status}: {body}")]
    Status {
        /// The requested path.
        path: &'static str,
        /// The ops listener.
        address: SocketAddr,
        /// The status.
        status: u16,
        /// The first line of the body, escaped.
        body: String,
    },
}

/// What is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/healthz`: whether the process runs.
    Alive,
    /// `/readyz`: whether it should receive traffic.
    Ready,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// Requests the probe of the ops listener that is bound to `address`, within 5 s.
///
/// # Errors
/// [`Unhealthy`], unless the status is 200.
pub fn probe(address: SocketAddr, kind: Kind) -> Result<(), Unhealthy> {
    fetch(address, kind.path()).map(drop)
}

/// Requests `path` of the ops listener that is bound to `address`, within 5 s. Returns the body, as far as it is within
/// the maximum size of a response.
///
/// # Errors
/// [`Unhealthy`], unless the status is 200.
pub fn fetch(address: SocketAddr, path: &'static str) -> Result<Vec<u8>, Unhealthy> {
    let address = reachable(address);
    let response = exchange(address, path).map_err(|error| Unhealthy::NoResponse(address, error))?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(&response) else { return Err(Unhealthy::NotHttp(address)) };
    match head.code {
        Some(200) => Ok(response.get(length..).unwrap_or_default().to_vec()),
        Some(status) => {
            let body = String::from_utf8_lossy(response.get(length..).unwrap_or_default());
            let body = body.lines().next().unwrap_or_default().escape_debug().to_string();
            Err(Unhealthy::Status { path, address, status, body })
        }
        None => Err(Unhealthy::NotHttp(address)),
    }
}

/// The address by which this host reaches a listener that is bound to `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// Sends the request and returns the response, up to its end or the maximum size.
fn exchange(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let end = Instant::now() + TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    let mut part = [0; 4096];
    let mut stream = stream.take(RESPONSE_BYTES);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.get_mut().set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(response),
            Ok(length) => response.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a read returns after its timeout.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Probes a server that sends this response; returns the result and the request.
    fn probed(kind: Kind, response: &'static str) -> (Result<(), Unhealthy>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut part) = (String::new(), [0; 1024]);
            while !request.ends_with("\r\n\r\n") {
                let length = stream.read(&mut part).unwrap();
                assert!(length > 0, "{request}");
                request.push_str(str::from_utf8(&part[..length]).unwrap());
            }
            stream.write_all(response.as_bytes()).unwrap();
            request
        });
        (probe(address, kind), server.join().unwrap())
    }

    #[test]
    fn it_is_healthy_with_status_200_only() {
        let (result, request) = probed(Kind::Alive, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
        result.unwrap();
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let (result, request) = probed(Kind::Ready, "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ready\":false}\nmore");
        assert!(request.starts_with("GET /readyz "), "{request}");
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("/readyz of 127.0.0.1:"), "{error}");
        assert!(error.ends_with(r#" returned 503: {\"ready\":false}"#), "{error}");
        assert!(matches!(probed(Kind::Alive, "HTTP/1.1 204 No Content\r\n\r\n").0, Err(Unhealthy::Status { .. })));
    }

    #[test]
    fn what_is_not_a_gateway_is_unhealthy() {
        for response in ["", "HTTP/1.1 200", "220 smtp.example ESMTP\r\n"] {
            assert!(matches!(probed(Kind::Alive, response).0, Err(Unhealthy::NotHttp(_))), "{response}");
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(probe(address, Kind::Alive), Err(Unhealthy::NoResponse(..))));
    }

    #[test]
    fn a_wildcard_address_is_reached_by_loopback() {
        for (bound, reached) in
            [("0.0.0.0:9180", "127.0.0.1:9180"), ("[::]:9180", "[::1]:9180"), ("192.0.2.1:9180", "192.0.2.1:9180")]
        {
            assert_eq!(reachable(bound.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
