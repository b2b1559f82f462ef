//! A panic costs the request alone that it is of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use holodule_gateway::authenticate::Accepted;
use holodule_gateway::client::Proxies;
use holodule_gateway::config::Corridor;
use holodule_gateway::cors::Origins;
use holodule_gateway::downstream::{Added, Downstream, Head, Peer};
use holodule_gateway::flow::Flow;
use holodule_gateway::framing;
use holodule_gateway::limit::{self, Limits, LoginSettings};
use holodule_gateway::record::log::{self, Writer};
use holodule_gateway::record::{Labels, Metrics};
use holodule_gateway::route::{Route, Table, shipped};
use holodule_gateway::tls::Identity;
use holodule_gateway::token::{Key, Keys, Settings, StaticTokens};
use holodule_gateway::upstream::{self, Address, Client, Upstream};
use http::request::Parts;
use http::{Request, StatusCode};
use pingora::{Error, Result};
use tracing::level_filters::LevelFilter;

use crate::support::certificate::certificates;
use crate::support::{Log, until};

/// A request that panics where the stages first look at its peer, and after the response's head where that is
/// `late`.
struct Panicking {
    request: Parts,
    peer: Peer,
    late: bool,
    looks: AtomicUsize,
    status: Option<StatusCode>,
}

impl Panicking {
    fn new(late: bool) -> Self {
        let request = Request::get("/").header("host", "elsewhere.example");
        Self {
            request: request.body(()).unwrap().into_parts().0,
            peer: peer(),
            late,
            looks: AtomicUsize::default(),
            status: None,
        }
    }
}

/// A peer that was shown the development certificate.
fn peer() -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] =
        [("cert.pem", &certificates().leaf), ("key.pem", &certificates().key)].map(|(name, pem)| {
            let file = folder.path().join(name);
            std::fs::write(&file, pem).unwrap();
            file
        });
    let identity = Arc::new(Identity::read(&certificate, &key).unwrap());
    Peer { address: ([192, 0, 2, 1], 1).into(), identity, tls: "1.3" }
}

impl Downstream for Panicking {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn peer(&self) -> &Peer {
        // The first time is before the stages, the third for the log.
        assert!(self.late || self.looks.fetch_add(1, Ordering::Relaxed) != 1, "a fault");
        &self.peer
    }

    fn retract(&mut self) -> bool {
        Default::default()
    }

    fn has_body(&mut self) -> bool {
        false
    }

    fn is_read(&mut self) -> bool {
        true
    }

    fn close_after(&mut self) {}

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn send_continue(&mut self) -> Result<()> {
        Ok(())
    }

    async fn closed(&mut self) -> Box<Error> {
        std::future::pending().await
    }

    async fn write_head(&mut self, head: Head<'_>, _: &[Added<'_>]) -> Result<()> {
        self.status = Some(head.header().status);
        Ok(())
    }

    async fn write_body(&mut self, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self, _: Bytes) -> Result<()> {
        assert!(!self.late, "a fault behind the head");
        Ok(())
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    fn body_bytes(&self) -> usize {
        0
    }
}

fn flow(metrics: &Arc<Metrics>, writer: &Writer) -> Flow {
    let second = Duration::from_secs(1);
    let upstream = upstream::Settings {
        connect_timeout: second,
        read_timeout: second,
        request_timeout: second,
        idle_timeout: second,
        max_connections: 1,
    };
    // It is never asked.
    let address = Address::Inet(([127, 0, 0, 1], 1).into());
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let keys = Keys::new(vec![Key::named("1", &[7; 32]).unwrap()], settings).unwrap();
    let accepted = Accepted { keys: Arc::new(keys), static_tokens: StaticTokens::default() };
    let routes = shipped().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    let login = LoginSettings { address: None, name: None };
    let limit = limit::Settings { address: None, identity: None, login };
    Flow {
        settings: Corridor {
            hsts: None,
            sizes: framing::Settings::default(),
            hosts: Vec::new(),
            allowed_origins: Origins::default(),
            body_timeout: second,
            read_timeout: second,
        },
        proxies: Arc::new(Proxies::default()),
        accepted: Arc::new(ArcSwap::from_pointee(accepted)),
        login: None,
        limits: Arc::new(Limits::new(&limit)),
        started: Instant::now(),
        revocation: None,
        routes: Table::new(routes, Vec::new()),
        api: Client::new(Arc::new(Upstream::new("api", address, upstream))),
        cache: None,
        metrics: Arc::clone(metrics),
        access_log: writer.access(),
    }
}

#[tokio::test]
async fn a_request_that_panics_is_answered_counted_and_logged_once() {
    let log = Log::default();
    let settings = log::Settings { format: log::Format::Json, level: LevelFilter::INFO };
    let writer = Writer::to(log.clone(), settings).unwrap();
    let metrics = Arc::new(Metrics::new(&Labels { routes: vec!["none"], ..Labels::default() }).unwrap());
    let flow = flow(&metrics, &writer);
    // A head that has left cannot be taken back; that its answer does not end says that it broke off.
    for (late, status, lines) in [(false, 500, 1), (true, 421, 2)] {
        let mut request = Panicking::new(late);
        flow.serve(&mut request).await;
        assert_eq!(request.status, StatusCode::from_u16(status).ok());
        until("it is logged", async || log.lines().len() >= lines).await;
        let lines_now = log.lines();
        assert_eq!(lines_now.len(), lines, "{lines_now:?}");
        let line = &lines_now[lines - 1];
        assert_eq!((&line["status"], &line["reason"]), (&status.into(), &"panic".into()), "{line}");
        assert_eq!(line["request_id"].as_str().unwrap().len(), 32);
        let page = String::from_utf8(metrics.page().unwrap()).unwrap();
        assert!(page.contains(&format!("gateway_panics_total {lines}\n")), "{page}");
        assert!(page.contains("gateway_requests_in_flight 0\n"), "{page}");
    }
}
