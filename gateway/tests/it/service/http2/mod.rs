//! HTTP/2 to a service, in clear text and over TLS.

mod addresses;
mod connections;
mod early;
mod grpc;
mod interim;
mod messages;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{route, service};
use crate::support::Gateway;

/// A request at the service, and how to respond to it.
struct Call {
    request: Request<RecvStream>,
    response: SendResponse<Bytes>,
    /// The number of its connection, from 0.
    connection: usize,
}

impl Call {
    /// Responds with 200 and this body.
    fn answer(mut self, body: impl Into<Bytes>) {
        let mut stream = self.response.send_response(Response::new(()), false).unwrap();
        stream.send_data(body.into(), true).unwrap();
    }

    /// The whole body of the request; `None` if it breaks off.
    async fn body(&mut self) -> Option<Vec<u8>> {
        let (mut body, stream) = (Vec::new(), self.request.body_mut());
        while let Some(data) = stream.data().await {
            let data = data.ok()?;
            stream.flow_control().release_capacity(data.len()).unwrap();
            body.extend_from_slice(&data);
        }
        Some(body)
    }
}

type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>;

/// A service that speaks HTTP/2 only.
struct Http2Service {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl Http2Service {
    async fn start(
        tls: Option<ServerConfig>,
        change: impl Fn(&mut h2::server::Builder) + Send + Sync + 'static,
        handler: impl Fn(Call) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, handler, change) = (Arc::clone(&connections), Arc::new(handler) as Handler, Arc::new(change));
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, handler, change) = (acceptor.clone(), Arc::clone(&handler), Arc::clone(&change));
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    change(&mut builder);
                    match acceptor {
                        None => serve(socket, &builder, &counted, handler).await,
                        Some(acceptor) => {
                            let Ok(socket) = acceptor.accept(socket).await else { return };
                            serve(socket, &builder, &counted, handler).await;
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }

    /// A service in clear text with the default settings.
    async fn plain(handler: impl Fn(Call) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self::start(None, |_| {}, handler).await
    }

    /// A gateway in front of it, which makes no connections for health checks during the test, except the first.
    fn gateway(&self, fields: &str) -> Gateway {
        let fields = format!(", http = '2', health_interval = 3600{fields}");
        start(&service("app", &[&self.address], &fields))
    }

    /// The number of connections on which requests have arrived.
    fn used(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Connections are counted at their first request, since health checks have none.
async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    builder: &h2::server::Builder,
    counted: &AtomicUsize,
    handler: Handler,
) {
    let Ok(mut connection) = builder.handshake(socket).await else { return };
    let mut number = None;
    while let Some(Ok((request, response))) = connection.accept().await {
        let number = *number.get_or_insert_with(|| counted.fetch_add(1, Ordering::SeqCst));
        let handled = handler(Call { request, response, connection: number });
        tokio::spawn(handled);
    }
}

/// A gateway in front of this service alone, which is `app`.
fn start(service: &str) -> Gateway {
    let settings = [("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")];
    super::start(&format!("[{service}]"), &format!("[{}]", route("app")), &settings)
}
