//! What is known of a connection, on its way from the listener to whoever serves the requests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;
use tokio::sync::watch;

use super::Identity;

/// What the requests of one connection have in common.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The certificate that the client was shown, or resumed a session of.
    pub identity: Arc<Identity>,
    /// When it becomes true, the connection ends with the next answer.
    pub drain: watch::Receiver<bool>,
    /// Whether some of the next request has come.
    pub has_next: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// What is known of the connection with this digest.
    pub fn of(digest: &Digest) -> Option<&Self> {
        digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// As the one digest of pingora's that carries data of others. It tells of a CONNECT proxy
    /// on the way to an upstream; no client's connection has one.
    pub(super) fn into_digest(self) -> Option<Arc<ProxyDigest>> {
        let response = ResponseHeader::build(200, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(self)))))
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo").finish_non_exhaustive()
    }
}
