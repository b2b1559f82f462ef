//! What stands before the corridor on HTTP/1: the head as it came, while it can still be
//! told from what a parser makes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};

use super::context::{request_id, told_id};
use super::reason::Reason;
use crate::client::{Prefix, Proxies};
use crate::cors::Origins;
use crate::framing::{self, BodyFraming, HeadError};
use crate::limit::Limits;
use crate::listener::{InspectHead, Inspected};
use crate::record::{Access, AccessLog, Metrics};
use crate::respond::{CommonHeaders, LocalResponse};
use crate::route;

/// Refuses heads of more than one meaning, in the contract's shape.
pub struct HeadInspector {
    /// How large a head may be.
    pub sizes: framing::Settings,
    /// Stands on every answer, if at all.
    pub hsts: Option<HeaderValue>,
    /// Who may speak for others, so that its address is not the client's.
    pub proxies: Arc<Proxies>,
    /// What is refused here counts against the limit of its address, too.
    pub limits: Arc<Limits>,
    /// When the limits began.
    pub started: Instant,
    /// The origins whose pages may read an answer.
    pub allowed_origins: Origins,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told of each request.
    pub access_log: AccessLog,
}

impl InspectHead for HeadInspector {
    fn end(&self, bytes: &[u8], seen: usize) -> Option<usize> {
        framing::end_of_head(bytes, seen)
    }

    fn max_head_bytes(&self) -> usize {
        framing::max_head_bytes(&self.sizes)
    }

    fn inspect(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Result<Inspected, Bytes> {
        let is_read = head.starts_with(b"GET ") || head.starts_with(b"HEAD ");
        let read = if is_read {
            framing::read_head(head, &self.sizes)
        } else {
            framing::check_head(head, &self.sizes).map(|body| (body, None))
        };
        match read {
            Ok((BodyFraming::None, Some(request))) if request.version == Version::HTTP_11 => {
                Ok(Inspected::Request(request))
            }
            Ok((body, _)) => {
                let body = match body {
                    BodyFraming::None => Some(0),
                    BodyFraming::Length(length) => Some(length),
                    BodyFraming::Chunked => None,
                };
                // pingora's parser compares it with Host to the letter.
                Ok(Inspected::Head { body, authority: framing::scheme_and_authority(head) })
            }
            Err(refusal) => Err(self.refuse(head, peer, began, refusal)),
        }
    }

    fn overflow(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Bytes {
        self.refuse(head, peer, began, framing::overflow(head, &self.sizes))
    }

    fn rejected_by_parser(&self, peer: SocketAddr, began: Instant) -> Bytes {
        self.refuse(b"", peer, began, HeadError::Malformed("the head cannot be parsed"))
    }
}

impl HeadInspector {
    fn refuse(&self, head: &[u8], peer: SocketAddr, began: Instant, refusal: HeadError) -> Bytes {
        let address = peer.ip();
        // Whom a proxy speaks for is not known here, and the proxy must not pay for everybody.
        if let Some(limiter) = self.limits.address.as_ref().filter(|_| !self.proxies.forwards_for_clients(address)) {
            // Within the limit or over it: the contract puts these refusals first.
            let _ = limiter.take(&Some(Prefix::from(address)), self.started.elapsed());
        }
        let answer = LocalResponse::from(refusal);
        let request_id = request_id();
        // A name for the label only: whatever is not one of a fixed set is `other`.
        let word = head.split(|&byte| byte == b' ').next().unwrap_or_default();
        let method = Method::from_bytes(word).unwrap_or(Method::CONNECT);
        let access = Access {
            request_id: &request_id,
            // No header of such a head can be trusted, not even a proxy's.
            client: address,
            method: &method,
            route: route::NONE,
            path: None,
            query: None,
            protocol: None,
            tls: None,
            user_agent: None,
            status: Some(answer.status),
            upstream: None,
            total: began.elapsed(),
            identity: None,
            bytes: answer.body.len(),
            cache: None,
            reason: Some(Reason::from(refusal).label()),
        };
        access.record(&self.metrics, &self.access_log);
        let sharing = self.allowed_origins.sharing_with(framing::sole_origin(head));
        answer.into_http1(&CommonHeaders {
            request_id: &told_id(&request_id),
            hsts: self.hsts.as_ref(),
            sharing: &sharing,
        })
    }
}
