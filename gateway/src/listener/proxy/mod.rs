//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): how a proxy that passes
//! bytes through tells whose they are, before the first of them.
//!
//! Read strictly, and not a byte past its end: what follows is TLS. A parser of our own, since
//! those that can be had take what the specification forbids, or bring a second copy of a
//! library with them; it is small, for nothing but the source's address is of use here.

pub mod header;

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use header::{Malformed, V2Head};

/// Reads a header off `stream`, and returns the client it tells of; `None` where it says that
/// the connection is the proxy's own, or that it does not know.
///
/// # Errors
/// `InvalidData` for what is no such header; whatever else breaks the connection.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; header::SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    let told = if start == header::SIGNATURE {
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
    Ok(told.map(|told| SocketAddr::new(told.ip().to_canonical(), told.port())))
}

/// The line of version 1 that begins with `start`. A look at what has come shows where the line
/// ends, so that it can be taken in few pieces without anything of what follows.
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
