//! The doors to the corridor: the application that the listener serves, and pingora's hooks.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::modules::http::HttpModules;
use pingora::prelude::http_proxy;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, Session};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::Flow;
use super::context::Context;
use crate::listener::{self, Downstream};

/// The corridor as pingora calls it.
pub(super) struct Hooks(Arc<Flow>);

/// The corridor with both of its doors, as [`listener::App`] tells them apart.
pub struct App {
    flow: Arc<Flow>,
    proxy: Arc<HttpProxy<Hooks>>,
}

impl App {
    /// The application that serves `flow`.
    pub fn new(flow: Flow, conf: &Arc<ServerConf>) -> Self {
        let flow = Arc::new(flow);
        let proxy = Arc::new(http_proxy(conf, Hooks(Arc::clone(&flow))));
        Self { flow, proxy }
    }
}

impl listener::App for App {
    async fn answer(&self, downstream: &mut impl Downstream) {
        self.flow.serve(downstream).await;
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        self.0.context()
    }

    // The stock compression module is of no use here, and each request would pay for it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let downstream = session.as_downstream_mut();
        // For each piece of a body.
        downstream.set_read_timeout(Some(self.0.settings.read_timeout));
        self.0.answer(downstream, ctx).await?;
        Ok(true)
    }

    /// Never asked for: [`Flow::answer`] has answered by then.
    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Err(Error::explain(ErrorType::InternalError, "a request that was not forwarded"))
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let downstream = session.as_downstream_mut();
        if self.0.fail(downstream, error, ctx).await {
            // What the client still sends would reset the connection.
            downstream.shutdown().await;
        }
        // For a log of pingora's, which is off.
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        // `fail_to_proxy` has told of it, without the target that pingora would print.
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Context) {
        self.0.tell(session.as_downstream(), ctx);
    }
}
