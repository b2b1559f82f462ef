//! The TLS handshake: with a client, or with a CA that validates a name (tls-alpn-01; RFC 8737).

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server};

use super::events::{ConnectionRefused, HandshakeFailure};
use crate::tls::{CHALLENGE_PROTOCOL, Identities, Identity};

/// The record of the fatal alert `unrecognized_name` (RFC 6066, section 3). rustls would send `access_denied`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a connection was closed before its first request.
pub(super) enum SetupError {
    Handshake(HandshakeFailure),
    Refused(ConnectionRefused),
    /// It was the handshake of a CA that validates a name.
    Validated,
}

impl From<io::Error> for SetupError {
    fn from(error: io::Error) -> Self {
        Self::Handshake(failure(&error, HandshakeFailure::Protocol))
    }
}

/// Performs the TLS handshake with the certificate for the requested server name.
pub(super) async fn accept(
    stream: TcpStream,
    identities: &Identities,
) -> Result<(server::TlsStream<TcpStream>, Arc<Identity>), SetupError> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    let is_validation = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == CHALLENGE_PROTOCOL));
    let challenge = hello.server_name().filter(|_| is_validation).and_then(|name| identities.challenge(name));
    if let Some(config) = challenge {
        let mut stream = start.into_stream(config).await?;
        stream.shutdown().await?;
        return Err(SetupError::Validated);
    }
    let Some(served) = identities.choose(hello.server_name()) else {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(SetupError::Handshake(HandshakeFailure::NoCertificate));
    };
    let stream = start.into_stream(served.config).await?;
    Ok((stream, served.identity))
}

/// Classifies an error: `invalid_data` if the client sent invalid data.
pub(super) fn failure(error: &io::Error, invalid_data: HandshakeFailure) -> HandshakeFailure {
    if error.kind() == io::ErrorKind::InvalidData { invalid_data } else { HandshakeFailure::Disconnected }
}
