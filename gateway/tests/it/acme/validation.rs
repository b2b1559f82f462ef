//! A CA validates a name by tls-alpn-01 (RFC 8737) at the public listener.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::server::Server;
use super::{DAY, HOUR};
use crate::support::certificate::certificates;
use crate::support::{Gateway, admin, api, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_is_answered_for_the_pending_name_only_and_its_connection_is_closed() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let server = Server::start((now - HOUR, now + DAY)).await;
    server.state().stalls = true;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &certificates().ca).unwrap();
    let storage = folder.path().join("acme");
    let (api, admin) = (api().await, admin().await);
    let settings = [
        ("ACME_DOMAINS", "['gateway.example']"),
        ("ACME_ACCEPT_TERMS", "true"),
        ("ACME_DIRECTORY", &server.directory),
        ("ACME_CA_ROOT", ca.to_str().unwrap()),
        ("ACME_STORAGE", storage.to_str().unwrap()),
    ];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    until("the challenge is published", async || server.state().stalled == 1).await;
    // It ends when the gateway closes the connection: its standard input stays open.
    let connect = |name: &str| {
        let address = gateway.https.to_string();
        let client = ["s_client", "-connect", &address, "-servername", name, "-alpn", "acme-tls/1"];
        let mut client =
            Command::new("openssl").args(client).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = client.stdin.take();
        let output = client.wait_with_output().unwrap();
        drop(stdin);
        String::from_utf8(output.stdout).unwrap()
    };
    let validation = connect("gateway.example");
    assert!(validation.contains("ALPN protocol: acme-tls/1\n"), "{validation}");
    let validations = "gateway_acme_tls_validations_total";
    assert_eq!(gateway.metric(validations).await, Some(1.0));
    let other = connect("localhost");
    assert!(!other.contains("ALPN protocol: acme-tls/1"), "{other}");
    assert_eq!(gateway.metric(validations).await, Some(1.0));
}
