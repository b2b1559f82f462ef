//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): a TCP proxy sends the client's address before
//! all other bytes of the connection.
//!
//! The parser is strict and reads no byte past the header, since TLS follows. The available crates accept headers that
//! the specification forbids, or add duplicate dependencies; only the source address is needed here.

pub mod header;

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use header::{Malformed, V2Head};

/// Reads a header from `stream` and returns the client address; `None` for a connection of the proxy itself, or
/// if the proxy does not know the address.
///
/// # Errors
/// `InvalidData` if the header is invalid; otherwise the error of the connection.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; header::SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    let source = if start == header::SIGNATURE {
        let mut rest = [0; header::V2_HEAD_BYTES];
        stream.read_exact(&mut rest).await?;
        let head = V2Head::parse(rest)?;
        let mut block = vec![0; head.length];
        stream.read_exact(&mut block).await?;
        header::parse_v2(head, &block)?
    } else {
        let line = read_line(stream, &start).await?;
        header::parse_v1(&line)?
    };
    Ok(source.map(|source| SocketAddr::new(source.ip().to_canonical(), source.port())))
}

/// Reads the rest of a version 1 header that begins with `start`. Peeking finds the end of the line, so that
/// few reads are needed and none goes past it.
async fn read_line(stream: &mut TcpStream, start: &[u8]) -> io::Result<Vec<u8>> {
    let mut line = start.to_vec();
    while line.starts_with(header::V1_START) && line.len() < header::MAX_V1_BYTES {
        let mut piece = [0; header::MAX_V1_BYTES];
        let room = header::MAX_V1_BYTES - line.len();
        let seen = stream.peek(piece.get_mut(..room).unwrap_or_default()).await?;
        let end = piece.iter().take(seen).position(|&byte| byte == b'\n');
        let count = end.map_or(seen, |end| end + 1);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = line.len();
        line.resize(before + count, 0);
        stream.read_exact(line.get_mut(before..).unwrap_or_default()).await?;
        if end.is_some() {
            return Ok(line);
        }
    }
    Err(Malformed.into())
}
