//! The check of HTTP/1 heads before they are parsed: it sees the bytes as received, which a parser
//! may interpret differently.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};

use super::context::{request_id, response_id};
use super::reason::Reason;
use crate::client::{Prefix, Proxies};
use crate::cors::Origins;
use crate::framing::{self, BodyFraming, HeadError};
use crate::limit::Limits;
use crate::listener::{InspectHead, Inspected};
use crate::record::{Access, AccessLog, Metrics};
use crate::respond::{CommonHeaders, LocalResponse};
use crate::route;

/// Refuses ambiguous heads, in the format of the wire contract.
pub struct HeadInspector {
    /// The limits on the size of a head.
    pub sizes: framing::Settings,
    /// The HSTS header of every answer, if configured.
    pub hsts: Option<HeaderValue>,
    /// The trusted proxies, whose address is not the client's.
    pub proxies: Arc<Proxies>,
    /// Requests refused here also count against the limit of their address.
    pub limits: Arc<Limits>,
    /// The start of the limiter's clock.
    pub started: Instant,
    /// The origins allowed to read answers.
    pub allowed_origins: Origins,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The access log.
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
                // pingora's parser compares it with Host byte by byte.
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
        // The client behind a trusted proxy is not known here, and the proxy must not be charged for all.
        if let Some(limiter) = self.limits.address.as_ref().filter(|_| !self.proxies.forwards_for_clients(address)) {
            // Within the limit or over it: the contract puts these refusals first.
            let _ = limiter.take(&Some(Prefix::from(address)), self.started.elapsed());
        }
        let answer = LocalResponse::from(refusal);
        let request_id = request_id();
        // Only a label: a value outside a fixed set becomes `other`.
        let word = head.split(|&byte| byte == b' ').next().unwrap_or_default();
        let method = Method::from_bytes(word).unwrap_or(Method::CONNECT);
        let access = Access {
            request_id: &request_id,
            trace_id: None,
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
            bytes: answer.body.len() as u64,
            tunnel: None,
            cache: None,
            reason: Some(Reason::from(refusal).label()),
        };
        access.record(&self.metrics, &self.access_log);
        let sharing = self.allowed_origins.sharing_with(framing::sole_origin(head));
        answer.into_http1(&CommonHeaders {
            request_id: &response_id(&request_id),
            hsts: self.hsts.as_ref(),
            sharing: &sharing,
        })
    }
}
