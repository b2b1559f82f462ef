//! What a response has besides its head and its content: early hints before it, and trailers after it.

use std::future::Future;
use std::pin::Pin;

use http::header::{HeaderName, LINK};
use http::{HeaderMap, HeaderValue, Response, Version};
use pingora::Result;
use tokio::time::timeout_at;

use super::forward::{Client, failed, not_taken};
use super::{Admitted, Context, Flow};
use crate::compress;
use crate::downstream::Downstream;
use crate::route::{Host, Route};
use crate::upstream::{self, Caller, Deadlines, Event, PublicAuthority, ResponseBody, UpstreamError};

impl Admitted {
    /// What the service's references to itself become in the response.
    pub(super) fn public_authority(&self) -> PublicAuthority<'_> {
        let route = &self.matched.route;
        PublicAuthority {
            authority: &self.authority,
            is_forwarded: route.host == Host::Client,
            needs_token: self.principal.is_some(),
            prefixes: route.prefixes(),
        }
    }
}

impl Flow {
    /// Waits for the head of the response, and passes on the early hints before it. Each of them restarts the timeout of
    /// the head; a retry does not.
    ///
    /// # Errors
    /// On the side of the upstream or of the client.
    pub(super) async fn await_head(
        &self,
        downstream: &mut impl Downstream,
        (ctx, admitted): (&Context, &Admitted),
        (sender, deadlines): (&mut Client, Deadlines),
        (caller, mut opening): (&Caller, Pin<&mut impl Future<Output = Result<Response<ResponseBody>, UpstreamError>>>),
    ) -> Result<Response<ResponseBody>> {
        let (mut arrived, mut of_head) = (None, deadlines.of_head());
        loop {
            let waiting = caller.event(opening.as_mut(), &mut arrived);
            match sender.until(downstream, waiting, of_head).await? {
                Event::Hints(links) => {
                    // Boxed, since it is rarely needed.
                    Box::pin(self.send_hints(downstream, admitted, links, deadlines)).await?;
                    of_head = deadlines.of_head();
                }
                Event::HeadWanted(by) => {
                    of_head = of_head.ending_by(by);
                    caller.put_head(self.head_for_service(downstream.request(), ctx, admitted)?);
                }
                Event::Response => {
                    if let Some(response) = arrived.take() {
                        return response.map_err(failed);
                    }
                }
            }
        }
    }

    async fn send_hints(
        &self,
        downstream: &mut impl Downstream,
        admitted: &Admitted,
        links: Vec<HeaderValue>,
        deadlines: Deadlines,
    ) -> Result<()> {
        let route = &admitted.matched.route;
        // A client of HTTP/1.0 would read an interim response as the final one (RFC 9110, section 15.2).
        if downstream.request().version == Version::HTTP_10 || route.response_headers.removes(&LINK) {
            return Ok(());
        }
        let upstream = self.backend(route)?.upstream();
        let fields = upstream::hints_for_client(links, upstream, &admitted.public_authority());
        if fields.is_empty() {
            return Ok(());
        }
        timeout_at(deadlines.end(), downstream.send_early_hints(fields)).await.map_err(|_| not_taken())?
    }

    /// Passes on the trailers of a response whose content ends with the next write, if it has any. `head` has the fields of
    /// its head. A hash of the content of the service is wrong if that `is_compressed`.
    pub(super) fn put_trailers(
        downstream: &mut impl Downstream,
        body: &mut ResponseBody,
        head: &HeaderMap,
        is_compressed: bool,
        route: &Route,
    ) {
        let Some(trailers) = body.take_trailers() else { return };
        let mut trailers = upstream::trailers_for_client(&trailers, head);
        let is_removed =
            |name: &HeaderName| route.response_headers.removes(name) || is_compressed && compress::is_digest(name);
        let removed: Vec<_> = trailers.keys().filter(|name| is_removed(name)).cloned().collect();
        for name in removed {
            trailers.remove(name);
        }
        if !trailers.is_empty() {
            downstream.put_trailers(trailers);
        }
    }
}
