//! A small plain-HTTP service with limits on connections and time, for the ops and redirect listeners.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::handover::Phase;

/// The timeout for a request head, and for an idle connection.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a request head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// The maximum size of a request body, in bytes.
const BODY_BYTES: usize = 4 * 1024;

/// Serves the connections of a plain listener.
pub(super) trait Serve: Send + Sync + 'static {
    /// Serves one connection. It is dropped after the timeout of the service. Once `leaving` resolves, the connection is
    /// closed after the response in progress: further requests are another process's.
    fn serve(&self, stream: TcpStream, leaving: impl Future<Output = ()> + Send) -> impl Future<Output = ()> + Send;
}

/// Handles the requests of a plain listener that uses hyper.
pub(super) trait PlainHandler: Send + Sync + 'static {
    /// Handles a GET or HEAD request.
    fn answer(&self, request: &Parts) -> Response<Full<Bytes>>;

    /// Accepts or refuses a POST request before its body is read. `None` if the path has no POST.
    fn admit(&self, _request: &Parts) -> Option<Result<(), StatusCode>> {
        None
    }

    /// Handles a POST request that was accepted.
    fn post(&self, _request: &Parts, _body: &Bytes) -> Response<Full<Bytes>> {
        text(StatusCode::NOT_FOUND, "not found")
    }
}

/// Text, and a newline.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    page(status, "text/plain", format!("{text}\n"))
}

/// A page of any type.
pub(super) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The service on one socket.
pub(super) struct Plain<A> {
    name: &'static str,
    socket: Option<TcpListener>,
    phase: watch::Receiver<Phase>,
    max_connections: usize,
    connection_timeout: Duration,
    answer: Arc<A>,
}

impl<A: Serve> Plain<A> {
    /// A service called `name` that holds at most `max_connections`, each for at most
    /// `connection_timeout`. It serves only in the phase [`Phase::Serving`].
    pub(super) fn new(
        name: &'static str,
        (socket, phase): (TcpListener, watch::Receiver<Phase>),
        max_connections: usize,
        connection_timeout: Duration,
        answer: A,
    ) -> Self {
        Self { name, socket: Some(socket), phase, max_connections, connection_timeout, answer: Arc::new(answer) }
    }

    async fn serve(&self, socket: tokio::net::TcpListener) {
        let free = Arc::new(Semaphore::new(self.max_connections));
        let connection_timeout = self.connection_timeout;
        loop {
            let stream = match socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "a connection could not be accepted");
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else { continue };
            let answer = Arc::clone(&self.answer);
            let leaving = reached(self.phase.clone(), Phase::Left);
            tokio::spawn(async move {
                let _ = timeout(connection_timeout, answer.serve(stream, leaving)).await;
                drop(permit);
            });
        }
    }
}

impl<A: PlainHandler> Serve for A {
    async fn serve(&self, stream: TcpStream, leaving: impl Future<Output = ()> + Send) {
        let service = service_fn(async |request| Ok::<_, Infallible>(respond(self, request).await));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // Errors of such connections need no log line.
        tokio::select! {
            _ = &mut connection => return,
            () = leaving => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn respond(answer: &impl PlainHandler, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (request, body) = request.into_parts();
    if matches!(request.method, Method::GET | Method::HEAD) {
        return answer.answer(&request);
    }
    let admitted = answer.admit(&request);
    let takes_post = admitted.is_some();
    match admitted.filter(|_| request.method == Method::POST) {
        Some(Ok(())) => match Limited::new(body, BODY_BYTES).collect().await {
            Ok(body) => answer.post(&request, &body.to_bytes()),
            Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off"),
        },
        Some(Err(status)) => text(status, status.canonical_reason().unwrap_or("error")),
        None => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            let allow = if takes_post { "POST" } else { "GET, HEAD" };
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            response
        }
    }
}

/// Resolves in this phase.
async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    if phase.wait_for(|phase| *phase == wanted).await.is_err() {
        // It never comes.
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl<A: Serve> Service for Plain<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let Some(socket) = self.socket.take() else { return };
        tokio::select! {
            () = reached(self.phase.clone(), Phase::Serving) => {}
            _ = shutdown.changed() => return,
        }
        match tokio::net::TcpListener::from_std(socket) {
            // Served until the end of the drain, so that its progress can be observed; after an upgrade, by the new process.
            Ok(socket) => tokio::select! {
                () = self.serve(socket) => {}
                () = reached(self.phase.clone(), Phase::Left) => {}
                _ = shutdown.changed() => {}
            },
            Err(error) => tracing::error!(listener = self.name, %error, "a listener cannot be served"),
        }
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
