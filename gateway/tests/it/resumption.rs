//! Resumption of TLS sessions (RFC 8446, section 2.2; RFC 5077). Early data is not accepted.

use std::sync::Arc;

use rustls::client::{ClientConnection, Tls13ClientSessionValue};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion};

use crate::support::client::{Connection, handshake_with, tls};
use crate::support::{Gateway, admin, api, get};

/// More than a session store on a server holds by default.
const CLIENTS: usize = 400;

/// Performs the handshake for this name, sends one request and returns the kind of handshake.
async fn visit(gateway: &Gateway, name: &'static str, config: &ClientConfig) -> HandshakeKind {
    let stream = handshake_with(gateway.https, name, config.clone()).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    // TLS 1.3 sends tickets after the handshake.
    assert_eq!(Connection::over(stream).exchange(get("/nothing", "")).await.status, 404);
    kind
}

#[tokio::test]
async fn any_number_of_clients_can_resume() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let versions: [&'static SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
    for version in versions {
        let clients: Vec<_> = (0..CLIENTS).map(|_| tls(&[version], &["http/1.1"])).collect();
        for client in &clients {
            assert_ne!(visit(&gateway, "localhost", client).await, HandshakeKind::Resumed);
        }
        for (number, client) in clients.iter().enumerate() {
            let kind = visit(&gateway, "localhost", client).await;
            assert_eq!(kind, HandshakeKind::Resumed, "client {number} by {version:?}");
        }
    }
}

#[tokio::test]
async fn early_data_is_not_offered() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut config = tls(&[&rustls::version::TLS13], &["http/1.1"]);
    config.enable_early_data = true;
    visit(&gateway, "localhost", &config).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut again = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    assert!(again.early_data().is_none(), "the ticket allows early data");
    // The connection that was never opened has used the only ticket.
    assert_ne!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed);
    assert_eq!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed);
}

/// Resumes the session of any name with every name, unlike a regular client.
#[derive(Debug)]
struct SharedSessions(ClientSessionMemoryCache);

fn shared_name() -> ServerName<'static> {
    ServerName::try_from("shared.example").unwrap()
}

impl ClientSessionStore for SharedSessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(shared_name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&shared_name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(shared_name(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&shared_name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&shared_name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(shared_name(), ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&shared_name())
    }
}

#[tokio::test]
async fn a_session_is_resumed_only_for_its_own_name() {
    let (api, admin) = (api().await, admin().await);
    // With one certificate, so that only the name differs.
    let gateway = Gateway::start(&api, &admin);
    let versions: [&'static SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
    for version in versions {
        let mut config = tls(&[version], &["http/1.1"]);
        config.resumption = Resumption::store(Arc::new(SharedSessions(ClientSessionMemoryCache::new(8))));
        visit(&gateway, "localhost", &config).await;
        assert_eq!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed, "{version:?}");
        // A client sends no SNI for an address.
        assert_ne!(visit(&gateway, "127.0.0.1", &config).await, HandshakeKind::Resumed, "{version:?}");
    }
}
