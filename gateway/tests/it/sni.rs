//! ops/WIRE.md: the certificate is selected by SNI (RFC 6066, section 3), and requests may only name its hosts.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, HandshakeKind};

use crate::support::backend::Backend;
use crate::support::certificate::certificates;
use crate::support::client::{Connection, handshake_with, tls_trusting};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api};

/// A self-signed certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn of(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

/// A gateway with certificates for `localhost` (the default), `*.example.org` and `api.example.org`.
struct Site {
    gateway: Gateway,
    wildcard: Pair,
    exact: Pair,
}

impl Site {
    fn start(api: &Backend, admin: &Backend) -> Self {
        let wildcard = Pair::of(&["*.example.org", "example.org"]);
        let exact = Pair::of(&["api.example.org"]);
        let folder = tempfile::tempdir().unwrap();
        let mut tables = Vec::new();
        for (name, pair) in [("wildcard", &wildcard), ("exact", &exact)] {
            let [certificate, key] = ["pem", "key"].map(|kind| folder.path().join(format!("{name}.{kind}")));
            std::fs::write(&certificate, &pair.certificate).unwrap();
            std::fs::write(&key, &pair.key).unwrap();
            tables.push(format!("{{certificate = {certificate:?}, private_key = {key:?}}}"));
        }
        let setting = format!("[{}]", tables.join(", "));
        let settings = [("CERTIFICATE", setting.as_str()), ("HOSTS", "['everywhere.example']")];
        Self { gateway: Gateway::start_with(api, admin, &settings), wildcard, exact }
    }

    fn client(&self) -> ClientConfig {
        let trusted = [&certificates().ca, &self.wildcard.certificate, &self.exact.certificate];
        tls_trusting(&trusted.map(String::as_str), rustls::ALL_VERSIONS, &["http/1.1"])
    }

    /// A connection for this name, and the certificate that the client received.
    async fn connect(&self, name: &'static str) -> (Connection, CertificateDer<'static>) {
        let stream = handshake_with(self.gateway.https, name, self.client()).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (Connection::over(stream), shown)
    }
}

fn get(host: &str) -> String {
    format!("GET {DAY} HTTP/1.1\r\nHost: {host}\r\nAuthorization: JWT {}\r\n\r\n", token("user01"))
}

#[tokio::test]
async fn the_certificate_is_selected_by_sni() {
    let (api, admin) = (api().await, admin().await);
    let site = Site::start(&api, &admin);
    let rows = [
        ("localhost", &certificates().leaf),
        // A client sends no SNI for an address.
        ("127.0.0.1", &certificates().leaf),
        ("api.example.org", &site.exact.certificate),
        ("www.example.org", &site.wildcard.certificate),
        ("example.org", &site.wildcard.certificate),
    ];
    for (name, expected) in rows {
        let expected = CertificateDer::from_pem_slice(expected.as_bytes()).unwrap();
        assert_eq!(site.connect(name).await.1, expected, "{name}");
    }
    let refused = handshake_with(site.gateway.https, "a.b.example.org", site.client()).await.unwrap_err();
    assert!(
        refused.to_string().contains("not valid for name"),
        "the client receives the default certificate: {refused}"
    );
}

#[tokio::test]
async fn a_host_must_be_a_name_of_the_selected_certificate() {
    let (api, admin) = (api().await, admin().await);
    let site = Site::start(&api, &admin);
    let rows: [(&'static str, &[&str], &[&str]); 4] = [
        ("localhost", &["localhost", "127.0.0.1:8443"], &["api.example.org", "www.example.org", "example.org"]),
        ("127.0.0.1", &["localhost", "[::1]"], &["api.example.org"]),
        ("api.example.org", &["api.example.org", "API.example.org:1"], &["www.example.org", "localhost"]),
        (
            "www.example.org",
            &["www.example.org", "other.example.org", "example.org", "api.example.org"],
            &["localhost", "127.0.0.1", "a.b.example.org"],
        ),
    ];
    for (name, ours, others) in rows {
        let mut connection = site.connect(name).await.0;
        for host in ours.iter().chain(&["everywhere.example"]) {
            assert_eq!(connection.exchange(get(host)).await.status, 200, "{host} on {name}");
        }
        let seen = api.seen().len();
        for host in others {
            let answer = connection.exchange(get(host)).await;
            answer.assert_json(421, r#"{"error":"Misdirected Request"}"#);
        }
        assert_eq!(api.seen().len(), seen, "{name}");
    }
}

#[tokio::test]
async fn a_resumed_session_has_the_hosts_of_its_name() {
    let (api, admin) = (api().await, admin().await);
    let site = Site::start(&api, &admin);
    // One client, which stores a session for each name.
    let client = site.client();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        for (name, other) in [("api.example.org", "localhost"), ("localhost", "api.example.org")] {
            let stream = handshake_with(site.gateway.https, name, client.clone()).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{name}");
            let mut connection = Connection::over(stream);
            assert_eq!(connection.exchange(get(name)).await.status, 200, "{name}, {kind:?}");
            assert_eq!(connection.exchange(get(other)).await.status, 421, "{other} on {name}, {kind:?}");
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_after_a_reload_and_open_connections_continue() {
    let (api, admin) = (api().await, admin().await);
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let write = |pair: &Pair| {
        std::fs::write(&certificate, &pair.certificate).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
    };
    let [old, renewed] = [Pair::of(&["localhost"]), Pair::of(&["localhost", "renewed.example"])];
    write(&old);
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let gateway = Gateway::start_with(&api, &admin, &[("TLS_CERTIFICATE", certificate), ("TLS_PRIVATE_KEY", key)]);
    let trusted = [old.certificate.as_str(), renewed.certificate.as_str()];
    let client = tls_trusting(&trusted, rustls::ALL_VERSIONS, &["http/1.1"]);
    let shown = async |name| {
        let stream = handshake_with(gateway.https, name, client.clone()).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        Ok::<_, std::io::Error>((Connection::over(stream), shown))
    };
    let der = |pair: &Pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let (mut open, before) = shown("localhost").await.unwrap();
    assert_eq!(before, der(&old));

    std::fs::write(certificate, "half of a renewal").unwrap();
    assert!(gateway.reload(&[]).is_err());
    assert_eq!(shown("localhost").await.unwrap().1, der(&old), "an invalid pair changes nothing");

    write(&renewed);
    gateway.reload(&[]).unwrap();
    let (mut connection, after) = shown("renewed.example").await.unwrap();
    assert_eq!(after, der(&renewed));
    assert_eq!(connection.exchange(get("renewed.example")).await.status, 200);
    assert_eq!(open.exchange(get("localhost")).await.status, 200);
    assert_eq!(open.exchange(get("renewed.example")).await.status, 421, "the connection has the old certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_has_the_same_rules() {
    let (api, admin) = (api().await, admin().await);
    let site = Site::start(&api, &admin);
    let client = Http2::open(site.gateway.https).await;
    let request = |host: &str| {
        let request = http::Request::get(format!("https://{host}{DAY}"));
        request.header("authorization", format!("JWT {}", token("user01"))).body("").unwrap()
    };
    for host in ["api.example.org", "example.org"] {
        client.exchange(request(host)).await.assert_json(421, r#"{"error":"Misdirected Request"}"#);
    }
    assert!(api.seen().is_empty());
    for host in ["localhost", "everywhere.example"] {
        assert_eq!(client.exchange(request(host)).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn each_certificate_has_a_metric_of_its_expiry() {
    let (api, admin) = (api().await, admin().await);
    let site = Site::start(&api, &admin);
    for labels in [
        r#"certificate="0",name="localhost""#,
        r#"certificate="1",name="*.example.org""#,
        r#"certificate="2",name="api.example.org""#,
    ] {
        let series = format!("gateway_certificate_expiry_timestamp_seconds{{{labels}}}");
        assert!(site.gateway.metric(&series).await.is_some_and(|expiry| expiry > 0.0), "{series}");
    }
}
