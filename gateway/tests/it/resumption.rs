//! TLS sessions that are resumed (RFC 8446, section 2.2; RFC 5077), and early data, which is not
//! taken.

use std::sync::Arc;

use rustls::client::{ClientConnection, Tls13ClientSessionValue};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion};

use crate::support::client::{Connection, handshake_with, tls};
use crate::support::{Gateway, admin, api, get};

/// More than any store of sessions that a server keeps by default.
const CLIENTS: usize = 400;

/// Shakes hands as `name`, uses the connection once, and tells how the handshake went.
async fn visit(gateway: &Gateway, name: &'static str, config: &ClientConfig) -> HandshakeKind {
    let stream = handshake_with(gateway.https, name, config.clone()).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    // A ticket of TLS 1.3 comes behind the handshake.
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
    // The ticket was for the one connection that was never opened; the next begins anew.
    assert_ne!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed);
    assert_eq!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed);
}

/// Brings the session of any name to every name, as no honest client does.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn anyone() -> ServerName<'static> {
    ServerName::try_from("anyone").unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anyone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anyone())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anyone(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anyone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anyone());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anyone(), ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anyone())
    }
}

#[tokio::test]
async fn a_session_is_resumed_for_its_own_name_alone() {
    let (api, admin) = (api().await, admin().await);
    // Under one certificate, so that nothing but the name differs.
    let gateway = Gateway::start(&api, &admin);
    let versions: [&'static SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
    for version in versions {
        let mut config = tls(&[version], &["http/1.1"]);
        config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(8))));
        visit(&gateway, "localhost", &config).await;
        assert_eq!(visit(&gateway, "localhost", &config).await, HandshakeKind::Resumed, "{version:?}");
        // The address goes without a name.
        assert_ne!(visit(&gateway, "127.0.0.1", &config).await, HandshakeKind::Resumed, "{version:?}");
    }
}
