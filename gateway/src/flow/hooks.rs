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
        let Err(failed) = self.0.run(downstream, ctx).await else { return Ok(true) };
        if failed.is_answered {
            // What the client still sends would reset the connection.
            downstream.shutdown().await;
        }
        Err(failed.error)
    }

    /// Never called: [`Flow::run`] has answered by then.
    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Err(Error::explain(ErrorType::InternalError, "a request that was not forwarded"))
    }

    /// The request has been answered, as far as it could be; its connection ends.
    async fn fail_to_proxy(&self, _: &mut Session, _: &Error, _: &mut Context) -> FailToProxy {
        // For a log of pingora's, which is off.
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        // [`Flow::run`] has logged it, without the target that pingora would print.
        true
    }
}
