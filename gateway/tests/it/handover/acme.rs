//! Upgrades while a certificate is being obtained by ACME.

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::Upgraded;
use super::serve::held;
use crate::acme::server::Server;
use crate::support::backend::Backend;
use crate::support::certificate::certificates;
use crate::support::{DAY, admin, get, until};

const DAY_SECONDS: i64 = 24 * 3600;

/// A gateway whose order is in progress: the server does not respond until `stalls` is set to false.
struct Ordering {
    program: Upgraded,
    server: Server,
    folder: TempDir,
    api: Backend,
    /// Lets the backend respond.
    release: Arc<Semaphore>,
    _admin: Backend,
}

impl Ordering {
    async fn start() -> Self {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let server = Server::start((now - DAY_SECONDS, now + 90 * DAY_SECONDS)).await;
        server.state().stalls = true;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, &certificates().ca).unwrap();
        let release = Arc::new(Semaphore::new(0));
        let (api, admin) = (Backend::start(held(&release)).await, admin().await);
        let settings = [
            ("ACME_DOMAINS", "['gateway.example']"),
            ("ACME_ACCEPT_TERMS", "true"),
            ("ACME_DIRECTORY", &server.directory),
            ("ACME_CA_ROOT", ca.to_str().unwrap()),
            ("ACME_STORAGE", folder.path().to_str().unwrap()),
            ("HOSTS", "['localhost']"),
            ("UPSTREAM_READ_TIMEOUT", "60"),
        ];
        let program = Upgraded::start(&api, &admin, &settings).await;
        let ordering = Self { program, server, folder, api, release, _admin: admin };
        until("the state of the order is requested", async || ordering.server.state().stalled > 0).await;
        assert_eq!(ordering.challenges(), 1);
        ordering
    }

    /// The numbers of orders and of certificates.
    fn counts(&self) -> (usize, usize) {
        let state = self.server.state();
        (state.orders.len(), state.issued.len())
    }

    fn challenges(&self) -> usize {
        fs::read_dir(self.folder.path().join("challenges/tls-alpn-01")).unwrap().count()
    }

    fn logged(&self, what: &str) -> usize {
        self.program.log().matches(what).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_completed_while_the_old_process_drains_and_both_serve_its_certificate() {
    let mut ordering = Ordering::start().await;
    let mut download = ordering.program.connect().await;
    download.send(get(DAY, "")).await;
    until("the backend has the request", async || !ordering.api.seen().is_empty()).await;
    ordering.program.upgrade().await;
    ordering.server.state().stalls = false;
    let served = ["a certificate was obtained by ACME and is served", "a certificate by ACME was loaded and is served"];
    until("both serve the certificate", async || served.iter().all(|line| ordering.logged(line) == 1)).await;
    assert_eq!(ordering.program.child.try_wait().unwrap(), None, "{}", ordering.program.log());
    assert_eq!((ordering.counts(), ordering.challenges()), ((1, 1), 0));
    ordering.release.add_permits(1);
    assert_eq!(download.answer("GET").await.status, 200);
    ordering.program.first_has_ended().await;
    assert_eq!(ordering.logged("ERROR"), 0, "{}", ordering.program.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_the_old_process_leaves_is_made_again_by_the_new_one() {
    let mut ordering = Ordering::start().await;
    ordering.program.upgrade().await;
    ordering.program.first_has_ended().await;
    ordering.server.state().stalls = false;
    let obtained = "gateway_acme_attempts_total{result=\"success\"}";
    until("the new process has a certificate", async || ordering.program.metric(obtained).await == 1.0).await;
    assert_eq!(ordering.counts(), (2, 1));
    assert_eq!(ordering.challenges(), 0);
    assert_eq!(ordering.logged("ERROR"), 0, "{}", ordering.program.log());
}
