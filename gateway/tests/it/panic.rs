//! A panic ends only the request in which it occurs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use holodule_gateway::authenticate::Accepted;
use holodule_gateway::client::Proxies;
use holodule_gateway::config::{FlowSettings, StreamSettings};
use holodule_gateway::cors::Origins;
use holodule_gateway::downstream::http2::http2_options;
use holodule_gateway::downstream::{Downstream, ExtraField, Handler, Peer, ResponseHead};
use holodule_gateway::drain::{DrainTrigger, drain};
use holodule_gateway::flow::{Flow, Live};
use holodule_gateway::framing;
use holodule_gateway::limit::{self, Limits, LoginSettings};
use holodule_gateway::listener::{
    self, ConnectionReaped, ConnectionRefused, CurrentServing, Drain, HandshakeFailure, InspectHead, Inspected,
    Listener, Observe, Serving, Start,
};
use holodule_gateway::record::log::{self, Writer};
use holodule_gateway::record::{Labels, Metrics};
use holodule_gateway::route::{Route, RouteTable, default_routes};
use holodule_gateway::tls::{Identities, Identity, Purpose};
use holodule_gateway::token::{Key, Keys, Settings, StaticTokens};
use holodule_gateway::upstream::{self, Address, Upstream, UpstreamClient};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use pingora::services::Service as _;
use pingora::{Error, Result};
use tokio::sync::{Notify, watch};
use tracing::level_filters::LevelFilter;

use crate::support::certificate::certificates;
use crate::support::h2::{Http2, read};
use crate::support::{Log, until};

/// A request that panics when the stages first read its peer or, if `late`, after the head of the response.
struct Panicking {
    request: Parts,
    peer: Peer,
    late: bool,
    calls: AtomicUsize,
    status: Option<StatusCode>,
}

impl Panicking {
    fn new(late: bool) -> Self {
        let request = Request::get("/").header("host", "elsewhere.example");
        Self {
            request: request.body(()).unwrap().into_parts().0,
            peer: peer(),
            late,
            calls: AtomicUsize::default(),
            status: None,
        }
    }
}

/// The development certificate.
fn identity() -> Identity {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] =
        [("cert.pem", &certificates().leaf), ("key.pem", &certificates().key)].map(|(name, pem)| {
            let file = folder.path().join(name);
            std::fs::write(&file, pem).unwrap();
            file
        });
    Identity::read(&certificate, &key, Purpose::Server).unwrap()
}

fn peer() -> Peer {
    Peer { address: ([192, 0, 2, 1], 1).into(), identity: Arc::new(identity()), tls: "1.3" }
}

impl Downstream for Panicking {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn peer(&self) -> &Peer {
        // The first call is made before the stages, the third for the log.
        assert!(self.late || self.calls.fetch_add(1, Ordering::Relaxed) != 1, "a fault");
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

    async fn send_early_hints(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    fn put_trailers(&mut self, _: HeaderMap) {}

    async fn closed(&mut self) -> Box<Error> {
        std::future::pending().await
    }

    async fn write_head(&mut self, head: ResponseHead<'_>, _: &[ExtraField<'_>]) -> Result<()> {
        self.status = Some(head.header().status);
        Ok(())
    }

    async fn write_body(&mut self, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self, _: Bytes) -> Result<()> {
        assert!(!self.late, "a fault after the head");
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
    // It receives no request.
    let address = Address::Inet(([127, 0, 0, 1], 1).into());
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let keys = Keys::new(vec![Key::named("1", &[7; 32]).unwrap()], settings).unwrap();
    let accepted = Arc::new(Accepted { keys: Arc::new(keys), static_tokens: StaticTokens::default() });
    let routes = default_routes().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    let routes = Arc::new(RouteTable::new(routes, Vec::new()));
    let limit = limit::Settings { address: None, identity: None, login: LoginSettings { address: None, name: None } };
    Flow {
        settings: FlowSettings {
            hsts: None,
            sizes: framing::Settings::default(),
            hosts: Vec::new(),
            allowed_origins: Origins::default(),
            body_timeout: second,
            read_timeout: second,
            stream: StreamSettings { grace: second, idle_timeout: second, fan_out: Default::default() },
        },
        proxies: Arc::new(Proxies::default()),
        live: Arc::new(Live::new(Arc::clone(&accepted), Arc::clone(&routes))),
        accepted,
        login: None,
        limits: Arc::new(Limits::new(&limit)),
        started: Instant::now(),
        revocation: None,
        tickets: None,
        routes,
        api: UpstreamClient::new(Arc::new(Upstream::new("api", address, upstream))),
        services: Box::default(),
        draining: drain(Duration::ZERO).1,
        cache: None,
        fan_out: Default::default(),
        metrics: Arc::clone(metrics),
        access_log: writer.access(),
        tracer: None,
    }
}

#[tokio::test]
async fn a_request_that_panics_is_answered_counted_and_logged_once() {
    let log = Log::default();
    let settings = log::Settings { format: log::Format::Json, level: LevelFilter::INFO };
    let writer = Writer::to(log.clone(), settings).unwrap();
    let metrics = Arc::new(Metrics::new(&Labels { routes: vec!["none"], ..Labels::default() }).unwrap());
    let flow = flow(&metrics, &writer);
    // After the head, the status cannot change; the unfinished response shows the failure.
    for (late, status, lines) in [(false, 500, 1), (true, 421, 2)] {
        let mut request = Panicking::new(late);
        flow.serve(&mut request).await;
        assert_eq!(request.status, StatusCode::from_u16(status).ok());
        until("the request is logged", async || log.lines().len() >= lines).await;
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

/// A request of a client that panics when the stages first read its peer, in the second call.
struct Faulty<'a, D>(&'a mut D, AtomicUsize);

impl<D: Downstream> Downstream for Faulty<'_, D> {
    fn request(&self) -> &Parts {
        self.0.request()
    }

    fn peer(&self) -> &Peer {
        assert!(self.1.fetch_add(1, Ordering::Relaxed) != 1, "a fault");
        self.0.peer()
    }

    fn retract(&mut self) -> bool {
        self.0.retract()
    }

    fn has_body(&mut self) -> bool {
        self.0.has_body()
    }

    fn is_read(&mut self) -> bool {
        self.0.is_read()
    }

    fn close_after(&mut self) {
        self.0.close_after();
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.0.read_body().await
    }

    async fn send_continue(&mut self) -> Result<()> {
        self.0.send_continue().await
    }

    async fn send_early_hints(&mut self, fields: HeaderMap) -> Result<()> {
        self.0.send_early_hints(fields).await
    }

    fn put_trailers(&mut self, trailers: HeaderMap) {
        self.0.put_trailers(trailers);
    }

    async fn closed(&mut self) -> Box<Error> {
        self.0.closed().await
    }

    async fn write_head(&mut self, head: ResponseHead<'_>, added: &[ExtraField<'_>]) -> Result<()> {
        self.0.write_head(head, added).await
    }

    async fn write_body(&mut self, data: Bytes) -> Result<()> {
        self.0.write_body(data).await
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.0.finish(last).await
    }

    fn status(&self) -> Option<StatusCode> {
        self.0.status()
    }

    fn body_bytes(&self) -> usize {
        self.0.body_bytes()
    }
}

/// Serves each request by the flow, `/panic` with a fault and `/waiting` once it is `released`.
struct App {
    flow: Flow,
    begun: Notify,
    released: Notify,
}

impl Handler for App {
    async fn handle(&self, downstream: &mut impl Downstream) {
        match downstream.request().uri.path() {
            "/panic" => self.flow.serve(&mut Faulty(downstream, AtomicUsize::default())).await,
            "/waiting" => {
                self.begun.notify_one();
                self.released.notified().await;
                self.flow.serve(downstream).await;
            }
            _ => self.flow.serve(downstream).await,
        }
    }
}

/// HTTP/2 has no heads to inspect, and the tests do not count connections.
struct Nothing;

impl InspectHead for Nothing {
    fn end(&self, _: &[u8], _: usize) -> Option<usize> {
        None
    }

    fn max_head_bytes(&self) -> usize {
        0
    }

    fn inspect(&self, _: &[u8], _: SocketAddr, _: Instant) -> std::result::Result<Inspected, Bytes> {
        Err(Bytes::new())
    }

    fn overflow(&self, _: &[u8], _: SocketAddr, _: Instant) -> Bytes {
        Bytes::new()
    }

    fn rejected_by_parser(&self, _: SocketAddr, _: Instant) -> Bytes {
        Bytes::new()
    }
}

impl Observe for Nothing {
    fn opened(&self) {}
    fn closed(&self) {}
    fn refused(&self, _: ConnectionRefused) {}
    fn validated(&self) {}
    fn handshake_succeeded(&self, _: &'static str) {}
    fn handshake_failed(&self, _: HandshakeFailure) {}
    fn reaped(&self, _: ConnectionReaped) {}
    fn stream_refused(&self) {}
}

/// Serves `app` by HTTP/2 on the returned address, until the trigger is dropped.
fn listen(app: App) -> (SocketAddr, CurrentServing<App>, DrainTrigger) {
    let identities = Arc::new(Identities::new(vec![identity()]).unwrap());
    let patience = Duration::from_secs(30);
    let settings = listener::Settings {
        handshake_timeout: patience,
        header_timeout: patience,
        keepalive_timeout: patience,
        read_timeout: patience,
        write_timeout: patience,
        max_connections: 8,
        max_connections_per_address: 8,
        proxy_protocol: false,
        trusted_proxies: Vec::new(),
        workers: 1,
        drain_timeout: patience,
    };
    let socket = listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let http2 = http2_options(16 * 1024, 100);
    let serving = Serving { handler: app, inspector: Box::new(Nothing), settings, http2 };
    let serving = Arc::new(ArcSwap::from_pointee(serving));
    let (trigger, draining) = drain(patience);
    let ends = (
        Start { ready: None.into(), accepting: watch::channel(false).0 },
        Drain { requested: draining, done: watch::channel(false).0 },
    );
    let mut listener = Listener::new(socket, identities, Arc::clone(&serving), Arc::new(Nothing), ends);
    tokio::spawn(async move { listener.start_service(None, watch::channel(false).1, 1).await });
    (address, serving, trigger)
}

#[tokio::test]
async fn other_streams_of_a_connection_survive_a_panic() {
    let log = Log::default();
    let settings = log::Settings { format: log::Format::Json, level: LevelFilter::INFO };
    let writer = Writer::to(log.clone(), settings).unwrap();
    let metrics = Arc::new(Metrics::new(&Labels { routes: vec!["none"], ..Labels::default() }).unwrap());
    let app = App { flow: flow(&metrics, &writer), begun: Notify::new(), released: Notify::new() };
    let (address, serving, _drain) = listen(app);
    let app = &serving.load_full().handler;
    let client = Http2::open(address).await;
    let get = |path: &str| Request::get(format!("https://localhost{path}"));
    let (waiting, _stream) = client.begin(get("/waiting").body(()).unwrap(), true).await.unwrap();
    app.begun.notified().await;
    for panics in 1..=2 {
        assert_eq!(client.exchange(get("/panic").body("").unwrap()).await.status, 500);
        let page = String::from_utf8(metrics.page().unwrap()).unwrap();
        assert!(page.contains(&format!("gateway_panics_total {panics}\n")), "{page}");
    }
    app.released.notify_one();
    // The requests have no token.
    assert_eq!(read(waiting.await.unwrap()).await.unwrap().status, 401);
    assert_eq!(client.exchange(get("/").body("").unwrap()).await.status, 401);
    until("each request is logged", async || log.lines().len() == 4).await;
    let statuses: Vec<_> = log.lines().iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [500, 500, 401, 401]);
}
