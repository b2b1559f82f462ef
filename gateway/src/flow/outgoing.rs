//! The head of a request to the service of its route.

use http::request::Parts;
use pingora::{Error, ErrorType, Result};

use super::header_rules::apply_to_request;
use super::trace::RequestSpan;
use super::{Admitted, Authorised, Context, Flow};
use crate::compress;
use crate::route::Host;
use crate::upstream::{self, ForwardingInfo};

impl Flow {
    /// The head that the service of `admitted` receives for `request`.
    ///
    /// # Errors
    /// The request cannot be forwarded, which the earlier stages exclude.
    pub(super) fn head_for_service(&self, request: &Parts, ctx: &Context, admitted: &Admitted) -> Result<Parts> {
        let Admitted { client, principal, matched, authority, .. } = admitted;
        let facts = ForwardingInfo {
            client: Some(*client),
            host: authority,
            request_id: &ctx.request_id,
            identity: principal.as_ref().map(Authorised::identity),
            target: &matched.target,
            prefix: matched.route.forwarded_prefix(),
            passes_host: matched.route.host == Host::Client,
        };
        let mut parts = upstream::for_upstream(&request.method, &request.headers, &facts)
            .map_err(|error| Error::because(ErrorType::InternalError, "a request that cannot be forwarded", error))?;
        // The forwarding headers from the client's proxies have been read; the gateway sets its own.
        if let Some(header) = self.proxies.header.as_ref().filter(|header| upstream::is_forwarded(header)) {
            parts.headers.remove(header);
        }
        upstream::remove_spellings(&mut parts.headers, self.routes.claim_headers());
        apply_to_request(&matched.route.request_headers, &mut parts.headers);
        upstream::request_trailers(&request.headers, &mut parts.headers);
        if let Some(principal) = principal {
            principal.add_claims(&mut parts.headers, &matched.route);
        }
        if !matched.route.compress.is_empty() {
            compress::restore(&mut parts.headers);
        }
        if let Some(RequestSpan { span, .. }) = ctx.span {
            self.put_trace(span, &request.headers, &mut parts);
        }
        Ok(parts)
    }
}
