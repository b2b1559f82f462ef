//! Endless responses, such as server-sent events: each piece is sent at once, there is no deadline for the whole, and
//! the response ends with the authority of its principal or at a moment of a drain.
//!
//! A response has no end of its own if it has no `Content-Length` and either is an event stream or belongs to a route
//! with `stream = true`. Other responses never get here.

use std::pin::{Pin, pin};
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

/// How long a client may take to accept the end of a response that the gateway ends. What a client that does not read
/// has not received by then is discarded.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Completes when the gateway has to end an endless response, with the reason.
pub(super) type Over = Pin<Box<dyn Future<Output = Reason> + Send>>;

/// The content of an endless response.
pub(super) trait Content: Send {
    /// The next piece; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// On the side of the upstream, or of the client, which may disconnect meanwhile.
    fn next_piece(&mut self, downstream: &mut impl Downstream) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// The body of a response of the service.
struct Body<'a> {
    client: &'a mut Client,
    body: &'a mut ResponseBody,
    deadlines: Deadlines,
}

impl Content for Body<'_> {
    async fn next_piece(&mut self, downstream: &mut impl Downstream) -> Result<Option<Bytes>> {
        self.client.until(downstream, self.body.data(), self.deadlines).await?.map_err(failed)
    }
}

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
        let mut over = self.begin_stream(downstream, ctx, admitted, &header).await?;
        // The response may last for days.
        drop(header);
        let mut content = Body { client: &mut sender, body: &mut *body, deadlines };
        let ended = send_content(downstream, ctx, &mut over, &mut content).await?;
        sender.discard_unread(downstream);
        if let Some(reason) = ended {
            return end_early(downstream, reason).await;
        }
        Self::put_trailers(downstream, body, received, false, route);
        downstream.finish(Bytes::new()).await?;
        if !body.is_finished() && !matches!(sender, Client::Discarding { .. }) {
            sender.send_rest(downstream, body.finished(), deadlines).await;
        }
        Ok(())
    }

    /// Writes the head of an endless response, and returns what ends it.
    ///
    /// # Errors
    /// On the side of the client.
    pub(super) async fn begin_stream(
        &self,
        downstream: &mut impl Downstream,
        ctx: &Context,
        admitted: &Admitted,
        header: &ResponseHeader,
    ) -> Result<Over> {
        let over = Box::pin(self.over(admitted, &downstream.request().method));
        downstream.expect_stream();
        downstream
            .write_head(ResponseHead::Plain(header), &ctx.common_headers(self.settings.hsts.as_ref()).fields())
            .await?;
        Ok(over)
    }
}

/// Sends the pieces of `content`, without the end of the response. Returns why the gateway has to end it; `None` at the
/// end of the content.
///
/// # Errors
/// On the side of the upstream or of the client. The response is then incomplete.
pub(super) async fn send_content(
    downstream: &mut impl Downstream,
    ctx: &mut Context,
    over: &mut Over,
    content: &mut impl Content,
) -> Result<Option<Reason>> {
    loop {
        let piece = tokio::select! {
            biased;
            reason = &mut *over => return Ok(Some(*ctx.reason.insert(reason))),
            piece = content.next_piece(downstream) => piece?,
        };
        let Some(piece) = piece else { return Ok(None) };
        let mut writing = pin!(downstream.write_body(piece));
        tokio::select! {
            biased;
            written = &mut writing => written?,
            reason = &mut *over => {
                ctx.reason = Some(reason);
                // The end may only follow a complete piece.
                let written = if reason == Reason::Drain { timeout(END_TIMEOUT, writing).await.ok() } else { None };
                written.ok_or_else(not_read)??;
                return Ok(Some(reason));
            }
        }
    }
}

/// Ends a response whose content has not ended. In a drain, the connection ends with it.
///
/// # Errors
/// The client does not accept the end within [`END_TIMEOUT`].
pub(super) async fn end_early(downstream: &mut impl Downstream, reason: Reason) -> Result<()> {
    if reason == Reason::Drain {
        downstream.close_after();
    }
    finish_soon(downstream).await
}

/// Ends a response.
///
/// # Errors
/// The client does not accept the end within [`END_TIMEOUT`].
pub(super) async fn finish_soon(downstream: &mut impl Downstream) -> Result<()> {
    timeout(END_TIMEOUT, downstream.finish(Bytes::new())).await.map_err(|_| not_read())?
}

fn not_read() -> Box<Error> {
    Error::explain(ErrorType::WriteError, "the stream was ended while the client did not read").into_down()
}
