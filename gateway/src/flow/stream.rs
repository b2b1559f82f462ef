//! Endless responses, such as server-sent events: each piece is sent at once, there is no deadline for the whole, and
//! the response ends with the authority of its principal or at a moment of a drain.
//!
//! A response has no end of its own if it has no `Content-Length` and either is an event stream or belongs to a route
//! with `stream = true`. Other responses never get here.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::forward::{Client, failed};
use super::reason::Reason;
use super::{Admitted, Context, Flow};
use crate::downstream::{Downstream, ResponseHead};
use crate::upstream::{Deadlines, ResponseBody};

/// How long a client may take to accept the end of a response that the gateway ends. Whatever is still being written to
/// a client that does not read is abandoned then.
pub(super) const END_TIMEOUT: Duration = Duration::from_millis(500);

impl Flow {
    /// Sends an endless response with the `received` fields to the client: `header` and then `body`, until either side or
    /// the gateway ends it.
    ///
    /// # Errors
    /// On the side of the upstream or of the client. The response is then incomplete.
    pub(super) async fn relay_stream(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        (header, received, body): (ResponseHeader, &HeaderMap, &mut ResponseBody),
        (mut sender, deadlines): (Client, Deadlines),
    ) -> Result<()> {
        let route = &admitted.matched.route;
        let deadlines = deadlines.of_stream(self.stream_idle(route));
        let method = downstream.request().method.clone();
        let mut over = pin!(self.over(self.authority_ended(admitted, &method)));
        downstream.expect_stream();
        downstream
            .write_head(ResponseHead::Plain(&header), &ctx.common_headers(self.settings.hsts.as_ref()).fields())
            .await?;
        let ended = loop {
            let data = tokio::select! {
                biased;
                reason = &mut over => break Some(reason),
                data = sender.until(downstream, body.data(), deadlines) => data?.map_err(failed)?,
            };
            let Some(data) = data else { break None };
            let mut writing = pin!(downstream.write_body(data));
            tokio::select! {
                biased;
                written = &mut writing => written?,
                reason = &mut over => {
                    ctx.reason = Some(reason);
                    // Only what is complete can be followed by the end.
                    let written = if reason == Reason::Drain { timeout(END_TIMEOUT, writing).await.ok() } else { None };
                    written.ok_or_else(abandoned)??;
                    break Some(reason);
                }
            }
        };
        sender.discard_unread(downstream);
        let Some(reason) = ended else {
            Self::put_trailers(downstream, body, received, false, route);
            downstream.finish(Bytes::new()).await?;
            if !body.is_finished() && !matches!(sender, Client::Discarding { .. }) {
                sender.send_rest(downstream, body.finished(), deadlines).await;
            }
            return Ok(());
        };
        ctx.reason = Some(reason);
        if reason == Reason::Drain {
            downstream.close_after();
        }
        timeout(END_TIMEOUT, downstream.finish(Bytes::new())).await.map_err(|_| abandoned())?
    }

    /// Waits until the gateway has to end an endless response or connection, and returns why.
    pub(super) async fn over(&self, authority_ended: impl Future<Output = Reason>) -> Reason {
        let mut draining = self.draining.clone();
        tokio::select! {
            biased;
            reason = authority_ended => reason,
            () = draining.turn() => Reason::Drain,
        }
    }
}

pub(super) fn abandoned() -> Box<Error> {
    Error::explain(ErrorType::WriteError, "the stream was ended while the client did not read").into_down()
}
