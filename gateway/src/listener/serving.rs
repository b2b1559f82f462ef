//! What requests are served with. Each reload makes another.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::inspect::InspectHead;
use super::settings::Settings;
use crate::downstream::{Downstream, Handler};

/// What requests are served with, between two reloads.
pub struct Serving<H> {
    /// Handles the requests.
    pub handler: H,
    /// Inspects the heads of HTTP/1 requests.
    pub inspector: Box<dyn InspectHead>,
    /// Limits and timeouts.
    pub settings: Settings,
    /// HTTP/2 protocol options, of new connections.
    pub http2: h2::server::Builder,
}

/// The current one. A request is served to its end with the one that was current when its head began; the next request
/// of the same connection with the one that is current then.
pub type CurrentServing<H> = Arc<ArcSwap<Serving<H>>>;

/// Handles each request with the handler that is current when it arrives, for connections with concurrent requests.
pub(super) struct CurrentHandler<H>(pub(super) CurrentServing<H>);

impl<H: Handler> Handler for CurrentHandler<H> {
    async fn handle(&self, downstream: &mut impl Downstream) {
        // Not a guard, since the few that a thread has are for short uses.
        let serving = self.0.load_full();
        serving.handler.handle(downstream).await;
    }
}
