//! TLS to a service.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::Address;
use super::connection::Socket;
use crate::tls::ClientSide;

/// The configured values of TLS to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The PEM file of the trusted CAs.
    pub ca: PathBuf,
    /// The name in the certificate of the service; by default the host of each address.
    pub server_name: Option<String>,
    /// The PEM files of the certificate that the gateway presents, and of its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// TLS to a service. What was read from the files can be replaced; connections that are open remain.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    client: ArcSwap<ClientSide>,
}

impl Tls {
    /// TLS with `settings`, where `client` was read from their files.
    pub fn new(settings: TlsSettings, client: ClientSide) -> Self {
        Self { settings, client: ArcSwap::from_pointee(client) }
    }

    /// Uses the content of the files as `newer` has read them, unless it has other settings.
    pub fn replace(&self, newer: &Self) {
        if self.settings == newer.settings {
            self.client.store(newer.client.load_full());
        }
    }

    /// What was read from the files.
    pub fn client(&self) -> Arc<ClientSide> {
        self.client.load_full()
    }

    /// The name that the certificate of the service at `address` must have; `None` if one must be configured.
    pub fn server_name<'a>(configured: Option<&'a str>, address: &'a Address) -> Option<ServerName<'a>> {
        match (configured, address) {
            (Some(name), _) => ServerName::try_from(name).ok(),
            (None, Address::Name(name, _)) => ServerName::try_from(name.as_str()).ok(),
            (None, Address::Inet(address)) => Some(ServerName::IpAddress(address.ip().into())),
            (None, Address::Unix(_)) => None,
        }
    }

    /// Makes the handshake with the service at `address`.
    ///
    /// # Errors
    /// The service does not speak TLS, or its certificate cannot be verified.
    pub(super) async fn connect(&self, address: &Address, socket: Socket) -> io::Result<Socket> {
        let name = Self::server_name(self.settings.server_name.as_deref(), address);
        let name = name.ok_or_else(|| io::Error::other("tls.server_name is missing"))?.to_owned();
        let connector = TlsConnector::from(Arc::clone(&self.client.load().config));
        let failed = |error| io::Error::other(format!("TLS with {address} as {}: {error}", name.to_str()));
        let stream = connector.connect(name.clone(), socket).await.map_err(failed)?;
        // Without ALPN, a service speaks HTTP/1.1.
        let selected = stream.get_ref().1.alpn_protocol();
        if connector.config().alpn_protocols.iter().any(|offered| offered == b"h2") && selected != Some(b"h2") {
            return Err(io::Error::other(format!("TLS with {address}: the service does not select h2 by ALPN")));
        }
        Ok(Socket::Tls(Box::new(stream)))
    }
}

/// The settings are compared, and not what the files contain.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Tls {}
