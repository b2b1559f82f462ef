//! TLS to a service: what is verified, and what clients receive when the verification fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use time::{Duration, OffsetDateTime};
use tokio::net::{TcpListener, TcpStream};

use super::{route, service};
use crate::program::{self, Program};
use crate::support::backend::{Backend, Step};
use crate::support::{Gateway, answer_of, get, request, until};
use crate::websocket::{HANDSHAKE, switch};

/// The number of the next CA.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A CA of a test.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("CA {number}"));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names that expires after `validity`, and its key.
    fn issue(&self, names: &[&str], validity: Duration) -> (String, String) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::days(30), now + validity);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A server with a certificate for these names. It requires one of clients by `clients`, if given.
    pub(super) fn server(&self, names: &[&str], clients: Option<&Self>, protocols: &[&str]) -> ServerConfig {
        self.server_until(names, clients, protocols, Duration::days(30))
    }

    fn server_until(
        &self,
        names: &[&str],
        clients: Option<&Self>,
        protocols: &[&str],
        validity: Duration,
    ) -> ServerConfig {
        let (certificate, key) = self.issue(names, validity);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let mut config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The field `tls` of a service with this CA and further fields.
pub(super) fn tls(ca: &Path, fields: &str) -> String {
    format!(", tls = {{ ca = {ca:?}{fields} }}")
}

/// A gateway in front of this service alone, which is `app`.
fn start(service: &str) -> Gateway {
    super::start(&format!("[{service}]"), &format!("[{}]", route("app")), &[])
}

#[tokio::test]
async fn a_verified_service_receives_requests_over_one_connection() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let backend = Backend::start_tls(ca.server(&["127.0.0.1"], None, &["http/1.1"]), |_| answer_of("secret")).await;
    let ca = write(folder.path(), "ca.pem", &ca.pem());
    let gateway = start(&service("app", &[&backend.address], &tls(&ca, "")));
    for _ in 0..3 {
        let answer = gateway.get("/app/x").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "secret"));
    }
    let body = "b".repeat(100_000);
    let head = request("PUT", "/app/x", "Content-Length: 100000\r\n");
    assert_eq!(gateway.exchange(format!("{head}{body}")).await.status, 200);
    let seen = backend.seen();
    assert_eq!(seen[3].body, body.as_bytes());
    assert!(seen.iter().all(|request| request.connection == seen[0].connection), "{seen:?}");
    assert_eq!(seen[0].values("host"), [backend.address.as_str()]);
    assert_eq!(seen[0].values("x-forwarded-proto"), ["https"]);
    let up = format!("gateway_service_address_up{{address=\"{}\",service=\"app\"}}", backend.address);
    until("the address is up", async || gateway.metric(&up).await == Some(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_verified_is_503_with_the_reason_in_the_log() {
    let (ca, other, folder) = (Ca::new(), Ca::new(), program::folder());
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    let valid = Duration::days(30);
    let wrong_name = ", server_name = 'other.internal'";
    let rows = [
        (other.server_until(&["127.0.0.1"], None, &[], valid), "", 503, "UnknownIssuer"),
        (ca.server_until(&["127.0.0.2"], None, &[], valid), "", 503, "not valid for name"),
        (ca.server_until(&["app.internal"], None, &[], valid), wrong_name, 503, "not valid for name"),
        (ca.server_until(&["127.0.0.1"], None, &[], -Duration::days(1)), "", 503, "certificate expired"),
        // The service refuses the gateway, after the handshake (RFC 8446, section 4.4.2.4).
        (ca.server_until(&["127.0.0.1"], Some(&other), &[], valid), "", 502, "CertificateRequired"),
    ];
    let (mut backends, mut services, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (server, fields, ..)) in rows.iter().enumerate() {
        let backend = Backend::start_tls(server.clone(), |_| answer_of("secret")).await;
        let name = format!("s{place}");
        services.push(service(&name, &[&backend.address], &tls(&trusted, fields)));
        routes.push(route(&name));
        backends.push(backend);
    }
    let (services, routes) = (format!("[{}]", services.join(", ")), format!("[{}]", routes.join(", ")));
    let settings = [("LOGIN_ENABLED", "false"), ("SERVICE", services.as_str()), ("ROUTE", routes.as_str())];
    let unused = Backend::at("127.0.0.1:1");
    let program = Program::start(folder.path(), &unused, &unused, &settings).await;
    for (place, (_, _, status, reason)) in rows.iter().enumerate() {
        let answer = program.connect().await.exchange(get(&format!("/s{place}/x"), "")).await;
        assert_eq!(answer.status, *status, "{reason}");
        assert_eq!(answer.values("retry-after") == ["1"], *status == 503, "{reason}");
        assert!(backends[place].seen().is_empty(), "{reason}");
        let address = &backends[place].address;
        let up = format!("gateway_service_address_up{{address=\"{address}\",service=\"s{place}\"}}");
        until("the address is checked", async || program.metric(&up).await == f64::from(u8::from(*status == 502)))
            .await;
    }
    let log = program.stop();
    for (place, (.., reason)) in rows.iter().enumerate() {
        let failed = |line: &&str| line.contains(&format!("\"s{place}\"")) && line.contains("a request failed");
        let line = log.lines().find(failed).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(reason), "{line}");
    }
}

#[tokio::test]
async fn a_service_without_tls_is_503_and_receives_nothing_readable() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let backend = Backend::start(|_| answer_of("plain")).await;
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    let services =
        service("app", &[&backend.address], &tls(&trusted, "")).replace("= 32", "= 4, connect_timeout = 0.3");
    let gateway = start(&services);
    assert_eq!(gateway.get("/app/x").await.status, 503);
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn a_server_name_is_verified_on_a_unix_socket() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    let backend = Backend::start_tls(ca.server(&["app.internal"], None, &[]), |_| answer_of("secret")).await;
    let path = folder.path().join("socket");
    let (listener, target) = (tokio::net::UnixListener::bind(&path).unwrap(), backend.address.clone());
    let relay = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let address = format!("unix:{}", path.display());
    for (name, status) in [("app.internal", 200), ("other.internal", 503)] {
        let fields = tls(&trusted, &format!(", server_name = '{name}'"));
        let gateway = start(&service("app", &[&address], &fields));
        assert_eq!(gateway.get("/app/x").await.status, status, "{name}");
    }
    relay.abort();
}

#[tokio::test]
async fn a_client_certificate_is_presented_and_replaced_by_a_reload() {
    let (ca, clients, folder) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let server = ca.server(&["127.0.0.1"], Some(&clients), &[]);
    let backend = Backend::start_tls(server, |_| answer_of("secret")).await;
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    // A certificate of another CA first. Neither has a name.
    let put = |of: &Ca| {
        let (certificate, key) = of.issue(&[], Duration::days(30));
        (write(folder.path(), "client.pem", &certificate), write(folder.path(), "client.key", &key))
    };
    let (certificate, key) = put(&ca);
    let fields = tls(&trusted, &format!(", certificate = {certificate:?}, private_key = {key:?}"));
    // Each request opens a connection.
    let fields = format!(", idle_timeout = 0{fields}");
    let gateway = start(&service("app", &[&backend.address], &fields));
    assert_eq!(gateway.get("/app/x").await.status, 502);
    put(&clients);
    assert_eq!(gateway.get("/app/x").await.status, 502);
    gateway.reload(&[]).unwrap();
    assert_eq!(gateway.get("/app/x").await.body, "secret");
    // An invalid file changes nothing, nor do the valid ones beside it.
    let other = Ca::new();
    write(folder.path(), "ca.pem", &other.pem());
    write(folder.path(), "client.key", "nothing");
    let error = gateway.reload(&[]).unwrap_err().to_string();
    assert!(error.contains("service[0].tls.private_key"), "{error}");
    assert_eq!(gateway.get("/app/x").await.body, "secret");
    put(&clients);
    gateway.reload(&[]).unwrap();
    let answer = gateway.get("/app/x").await;
    assert_eq!((answer.status, answer.value("retry-after")), (503, "1"));
}

/// A response without a length ends with its connection. Without a close_notify (RFC 8446, section 6.1), an attacker
/// may have cut it off.
#[tokio::test]
async fn a_response_that_ends_without_close_notify_does_not_look_complete() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    for (end, is_complete) in [(Step::CloseIdle, true), (Step::Close, false)] {
        let backend = Backend::start_tls(ca.server(&["127.0.0.1"], None, &[]), move |_| {
            let wait = Step::Wait(std::time::Duration::from_millis(300));
            vec![Step::Write(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()), wait, end.clone()]
        })
        .await;
        let gateway = start(&service("app", &[&backend.address], &tls(&trusted, "")));
        let mut connection = gateway.connect().await;
        connection.send(get("/app/x", "Connection: close\r\n")).await;
        let received = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(received.contains("half"), "{received}");
        assert_eq!(received.ends_with("0\r\n\r\n"), is_complete, "{received}");
    }
}

#[tokio::test]
async fn a_websocket_passes_over_tls() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let backend = Backend::start_tls(ca.server(&["127.0.0.1"], None, &["http/1.1"]), |seen| {
        let text = if seen.target == "/app/ws" { switch("") + "early" } else { "late".to_owned() };
        vec![Step::Write(text.into_bytes())]
    })
    .await;
    let ca = write(folder.path(), "ca.pem", &ca.pem());
    let service = service("app", &[&backend.address], &tls(&ca, ""));
    let routes = "[{ path = '/app/{*rest}', methods = ['GET'], service = 'app', upgrade = 'websocket' }]";
    let gateway = super::start(&format!("[{service}]"), routes, &[]);
    let mut client = gateway.connect().await;
    client.send(get("/app/ws", HANDSHAKE)).await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read_bytes(5).await, b"early");
    // The service of the test reads requests only.
    client.send("GET /inner HTTP/1.1\r\nHost: inner\r\n\r\n").await;
    assert_eq!(client.read_bytes(4).await, b"late");
    let seen = backend.seen();
    assert_eq!((seen.len(), seen[1].target.as_str(), seen[1].connection), (2, "/inner", seen[0].connection));
    assert!(seen[1].values("x-auth-identity").is_empty());
}

/// A listener whose connections reach `backend` after 200 ms.
async fn distant(backend: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let backend = backend.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                let mut far = TcpStream::connect(backend).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

/// With a sixteenth of the timeout for each, no handshake would succeed.
#[tokio::test]
async fn one_of_many_addresses_has_time_for_a_slow_handshake() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let backend = Backend::start_tls(ca.server(&["app.internal"], None, &[]), |_| answer_of("far")).await;
    let mut addresses = Vec::new();
    for _ in 0..16 {
        addresses.push(distant(backend.address.clone()).await);
    }
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let ca = write(folder.path(), "ca.pem", &ca.pem());
    let fields = format!(", connect_timeout = 2{}", tls(&ca, ", server_name = 'app.internal'"));
    let gateway = start(&service("app", &addresses, &fields));
    assert_eq!(gateway.get("/app/x").await.body, "far");
}
