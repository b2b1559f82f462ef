use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::SpanKind;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tracer::Figures;

/// What a collector received.
#[derive(Debug)]
struct Received {
    path: String,
    content_type: String,
    authorization: Option<String>,
    body: Bytes,
}

/// A collector that responds with `status` on a thread of its own.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicU64>,
}

impl Collector {
    fn start(status: StatusCode, tls: Option<TlsAcceptor>) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicU64::new(0));
        let (sender, address) = blocking::channel();
        let (log, count) = (Arc::clone(&received), Arc::clone(&connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    let (log, tls) = (Arc::clone(&log), tls.clone());
                    tokio::spawn(async move {
                        let service = service_fn(move |request| note(request, Arc::clone(&log), status));
                        let server = hyper::server::conn::http1::Builder::new();
                        match tls {
                            None => server.serve_connection(TokioIo::new(socket), service).await,
                            Some(tls) => match tls.accept(socket).await {
                                Ok(socket) => server.serve_connection(TokioIo::new(socket), service).await,
                                Err(_) => Ok(()),
                            },
                        }
                    });
                }
            });
        });
        Self { address: address.recv().unwrap(), received, connections }
    }

    fn received(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

async fn note(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<Received>>>,
    status: StatusCode,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let received = Received {
        path: parts.uri.to_string(),
        content_type: text("content-type").unwrap_or_default(),
        authorization: text("authorization"),
        body: body.collect().await?.to_bytes(),
    };
    log.lock().unwrap().push(received);
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}

fn settings(toml: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, format!("[telemetry]\n{toml}\n")).unwrap();
    let mut source = holodule_settings::Source::read(Some(&file), holodule_settings::Environment::default());
    let settings = crate::settings::read(&mut source, "a-service");
    assert_eq!(
        source.into_problems().iter().map(|problem| format!("{problem:?}")).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    settings.unwrap()
}

fn record(tracer: &Tracer, name: &'static str) {
    let mut recording = tracer.record(&tracer.begin(None), SpanKind::Server, name, SystemTime::now()).unwrap();
    recording.set("http.route", "holodules");
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_remaining_spans_are_exported_at_the_end() {
    let collector = Collector::start(StatusCode::OK, None);
    let (tracer, exporter) = start(
        &settings(&format!(
            "otlp_endpoint = 'http://{}'\nheaders = 'Authorization=Bearer hush'\ninterval = 300",
            collector.address
        )),
        "1.2.3",
    )
    .unwrap();
    for _ in 0..600 {
        record(&tracer, "GET holodules");
    }
    drop(exporter);
    assert_eq!(tracer.figures(), Figures { exported: 600, failed: 0, dropped: 0 });
    let received = collector.received();
    assert_eq!(received.len(), 2, "in batches of 512");
    assert_eq!(collector.connections.load(Ordering::Relaxed), 1, "over one connection");
    for Received { path, content_type, authorization, body } in received {
        assert_eq!((path.as_str(), content_type.as_str()), ("/v1/traces", "application/x-protobuf"));
        assert_eq!(authorization.as_deref(), Some("Bearer hush"));
        for text in ["a-service", "1.2.3", "GET holodules", "http.route"] {
            assert!(contains(&body, text), "{text}");
        }
    }
    record(&tracer, "late");
    assert_eq!(tracer.figures().dropped, 1, "after the end, spans are dropped");
}

#[test]
fn a_rejected_batch_is_counted_as_failed() {
    let collector = Collector::start(StatusCode::BAD_REQUEST, None);
    let (tracer, exporter) = start(&settings(&format!("otlp_endpoint = 'http://{}'", collector.address)), "1").unwrap();
    record(&tracer, "GET");
    drop(exporter);
    assert_eq!(tracer.figures(), Figures { exported: 0, failed: 1, dropped: 0 });
}

#[test]
fn a_collector_that_does_not_respond_delays_the_end_no_longer_than_the_timeout() {
    // It accepts no connection, but the system completes the handshakes of TCP.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let text = format!("otlp_endpoint = 'http://{address}'\ntimeout = 300\nqueue = 1");
    let (tracer, exporter) = start(&settings(&text), "1").unwrap();
    record(&tracer, "GET");
    let began = std::time::Instant::now();
    drop(exporter);
    assert!(began.elapsed() < FLUSH_TIMEOUT * 10, "{:?}", began.elapsed());
    assert_eq!(tracer.figures().exported, 0);
}

#[test]
fn the_certificate_of_the_collector_is_verified() {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let collector = Collector::start(StatusCode::OK, Some(TlsAcceptor::from(Arc::new(config))));
    let folder = tempfile::tempdir().unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    for (certificate, exported) in [(&issued.cert, 1), (&other.cert, 0)] {
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, certificate.pem()).unwrap();
        let text = format!(
            "otlp_endpoint = 'https://127.0.0.1:{}'\nca = '{}'\ntimeout = 1",
            collector.address.port(),
            ca.display()
        );
        let (tracer, exporter) = start(&settings(&text), "1").unwrap();
        record(&tracer, "GET");
        drop(exporter);
        assert_eq!(tracer.figures().exported, exported);
    }
    assert_eq!(collector.received().len(), 1);
}
