//! Metrics of the events that the listener reports.

use std::sync::Arc;

use crate::listener::{ConnectionReaped, ConnectionRefused, HandshakeFailure, Observe};
use crate::record::Metrics;

/// Counts the events of the listener.
pub(super) struct Observer(pub(super) Arc<Metrics>);

impl Observe for Observer {
    fn opened(&self) {
        self.0.connections().inc();
    }

    fn closed(&self) {
        self.0.connections().dec();
    }

    fn refused(&self, refused: ConnectionRefused) {
        self.0.connection_refused(refused.label());
    }

    fn handshake_succeeded(&self, version: &'static str) {
        self.0.handshake(version);
    }

    fn validated(&self) {
        self.0.acme().validation();
    }

    fn handshake_failed(&self, failure: HandshakeFailure) {
        self.0.handshake_failure(failure.label());
    }

    fn reaped(&self, reaped: ConnectionReaped) {
        self.0.connection_reaped(reaped.label());
    }

    fn stream_refused(&self) {
        self.0.stream_refused();
    }
}
