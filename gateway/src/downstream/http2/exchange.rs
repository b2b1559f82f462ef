//! One HTTP/2 request and its response.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::DATE;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::WINDOW_BYTES;
use crate::downstream::activity::{Activity, StreamGuard, UploadGuard};
use crate::downstream::date::date;
use crate::downstream::{Downstream, ExtraField, Peer, ResponseHead, allows_body, client_disconnected};

/// How long the rest of a request body is read and discarded after the end of its response.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of bytes discarded then: all that a client can send before it receives the response, which is the
/// window of the stream.
const DISCARD_BYTES: usize = WINDOW_BYTES as usize;

/// One HTTP/2 request and its response.
pub(super) struct Http2Exchange {
    request: Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    peer: Peer,
    activity: Arc<Activity>,
    write_timeout: Duration,
    /// The response head; sent once it is known whether it ends the stream.
    head: Option<Response<()>>,
    out: Option<SendStream<Bytes>>,
    status: Option<StatusCode>,
    /// Whether the response may have a body.
    has_body: bool,
    sent: usize,
    /// Whether the whole response, with its end, was passed to h2.
    is_complete: bool,
    trailers: Option<Box<HeaderMap>>,
    /// Set while the request body is streamed to the backend.
    upload: Option<UploadGuard>,
    /// Set while the response may never end.
    stream: Option<StreamGuard>,
}

impl Http2Exchange {
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        peer: Peer,
        activity: Arc<Activity>,
        write_timeout: Duration,
    ) -> Self {
        let (request, body) = request.into_parts();
        let (head, out, status, trailers, upload, stream) = (None, None, None, None, None, None);
        let (has_body, sent, is_complete) = (true, 0, false);
        Self {
            request,
            body,
            respond,
            peer,
            activity,
            write_timeout,
            head,
            out,
            status,
            has_body,
            sent,
            is_complete,
            trailers,
            upload,
            stream,
        }
    }

    /// Whether the client may still be sending the request after the end of its response.
    pub(super) fn has_unread(&self) -> bool {
        self.is_complete && !self.body.is_end_stream()
    }

    /// Reads and discards the rest of the request body after the end of the response, within limits. The exchange is
    /// dropped next, and what remains then is stopped by RST_STREAM with NO_ERROR (RFC 9113, section 8.1).
    ///
    /// Without it, that frame would arrive together with the response, and clients that have not sent their body yet
    /// then report an error in place of the response: curl 7.88 fails with exit code 92.
    pub(super) async fn discard_rest(&mut self) {
        let mut left = DISCARD_BYTES;
        let discarding = async {
            while let Ok(Some(data)) = self.read_body().await {
                let Some(rest) = left.checked_sub(data.len()) else { return };
                left = rest;
            }
        };
        // After the timeout, the client is stopped as well.
        let _ = timeout(DISCARD_TIMEOUT, discarding).await;
    }

    /// Sends the head if it has not been sent yet, with END_STREAM if `is_last`.
    fn send_head(&mut self, is_last: bool) -> Result<()> {
        if let Some(head) = self.head.take() {
            self.out = Some(self.respond.send_response(head, is_last).map_err(write_error)?);
        }
        Ok(())
    }

    /// Sends an interim response.
    async fn send_interim(&mut self, status: StatusCode, fields: HeaderMap) -> Result<()> {
        // Otherwise h2 would send it on a reset stream (RFC 9113, section 5.1).
        if poll_fn(|cx| Poll::Ready(self.respond.poll_reset(cx).is_ready())).await {
            return Err(client_disconnected());
        }
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = fields;
        self.respond.send_informational(interim).map_err(write_error)
    }

    /// Ends the response with trailers.
    async fn finish_with(&mut self, last: Bytes, trailers: HeaderMap) -> Result<()> {
        self.send_head(false)?;
        self.send(last, false).await?;
        self.out.as_mut().map_or(Ok(()), |out| out.send_trailers(trailers).map_err(write_error))
    }

    /// Sends `data` as flow control and the send buffer limit allow.
    async fn send(&mut self, mut data: Bytes, is_last: bool) -> Result<()> {
        let write_timeout = self.write_timeout;
        let out = self.out.as_mut();
        let out = out
            .ok_or_else(|| Error::explain(ErrorType::WriteError, "body written before the response head").into_in())?;
        while !data.is_empty() {
            out.reserve_capacity(data.len());
            let mut room = out.capacity();
            if room == 0 {
                let granted = timeout(write_timeout, poll_fn(|cx| out.poll_capacity(cx))).await;
                let granted = granted.map_err(|_| {
                    Error::explain(ErrorType::WriteTimedout, "no flow-control window from the client").into_down()
                })?;
                room = granted.ok_or_else(client_disconnected)?.map_err(write_error)?;
            }
            let piece = data.split_to(room.min(data.len()));
            self.sent += piece.len();
            out.send_data(piece, is_last && data.is_empty()).map_err(write_error)?;
        }
        Ok(())
    }
}

fn write_error(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "writing the response failed", error).into_down()
}

impl Downstream for Http2Exchange {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn has_body(&mut self) -> bool {
        !self.body.is_end_stream()
    }

    fn is_read(&mut self) -> bool {
        self.body.is_end_stream()
    }

    /// Each response ends its own stream; the other streams of the connection are unaffected.
    fn close_after(&mut self) {}

    fn expect_upload(&mut self) {
        self.upload.get_or_insert_with(|| self.activity.begin_upload());
    }

    fn expect_stream(&mut self) {
        self.stream.get_or_insert_with(|| self.activity.begin_stream());
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let read_error =
            |error| Error::because(ErrorType::ReadError, "reading the request body failed", error).into_down();
        let Some(data) = self.body.data().await else {
            // Trailers are discarded, but must be read for the stream to count as read.
            self.body.trailers().await.map_err(read_error)?;
            return Ok(None);
        };
        let data = data.map_err(read_error)?;
        // Frees flow-control window for the client.
        self.body.flow_control().release_capacity(data.len()).map_err(read_error)?;
        Ok(Some(data))
    }

    async fn send_continue(&mut self) -> Result<()> {
        self.send_interim(StatusCode::CONTINUE, HeaderMap::new()).await
    }

    async fn send_early_hints(&mut self, fields: HeaderMap) -> Result<()> {
        self.send_interim(StatusCode::EARLY_HINTS, fields).await
    }

    async fn closed(&mut self) -> Box<Error> {
        if let Err(error) = self.send_head(false) {
            return error;
        }
        let reset = match self.out.as_mut() {
            Some(out) => poll_fn(|cx| out.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        match reset {
            Ok(_) => client_disconnected(),
            Err(error) => Error::because(ErrorType::ReadError, "the client connection failed", error).into_down(),
        }
    }

    async fn write_head(&mut self, head: ResponseHead<'_>, added: &[ExtraField<'_>]) -> Result<()> {
        let header = head.header();
        let mut response = Response::new(());
        *response.status_mut() = header.status;
        let fields = response.headers_mut();
        fields.clone_from(&header.headers);
        fields.reserve(added.len() + 1);
        for (name, value) in added {
            if let Some(value) = *value {
                fields.append(name, value.clone());
            }
        }
        fields.insert(DATE, date());
        self.status = Some(header.status);
        self.has_body = allows_body(&self.request.method, header.status);
        // The request fields are no longer needed, and a client that does not read may have many requests
        // pending.
        self.request.headers = HeaderMap::new();
        self.head = Some(response);
        Ok(())
    }

    fn retract(&mut self) -> bool {
        let is_unsent = self.head.take().is_some();
        if is_unsent {
            self.status = None;
        }
        is_unsent
    }

    async fn write_body(&mut self, data: Bytes) -> Result<()> {
        self.send_head(false)?;
        if self.has_body { self.send(data, false).await } else { Ok(()) }
    }

    fn put_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = self.has_body.then(|| Box::new(trailers));
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        if let Some(trailers) = self.trailers.take() {
            // Boxed, since few responses have any.
            Box::pin(self.finish_with(last, *trailers)).await?;
        } else {
            let last = if self.has_body { last } else { Bytes::new() };
            let ends_with_head = self.head.is_some();
            self.send_head(last.is_empty())?;
            if !last.is_empty() {
                self.send(last, true).await?;
            } else if !ends_with_head && let Some(out) = &mut self.out {
                out.send_data(last, true).map_err(write_error)?;
            }
        }
        self.is_complete = true;
        Ok(())
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    fn body_bytes(&self) -> usize {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;
    use http::HeaderValue;
    use pingora::http::ResponseHeader;
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::CertifiedKey;
    use tokio::time::Instant;

    use super::*;
    use crate::tls::Identity;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    const REQUESTS: usize = 50;

    fn peer() -> Peer {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().signing_key.serialize_der();
        let key = any_supported_type(&PrivateKeyDer::try_from(key).unwrap()).unwrap();
        let certified = Arc::new(CertifiedKey::new(Vec::new(), key));
        let identity = Identity::of(certified);
        Peer { address: "127.0.0.1:1".parse().unwrap(), identity: Arc::new(identity), tls: "1.3" }
    }

    #[tokio::test(start_paused = true)]
    async fn responses_waiting_for_window_do_not_retain_request_fields() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut options = h2::client::Builder::new();
        options.initial_window_size(0);
        let (sending, server) = tokio::join!(options.handshake::<_, Bytes>(near), h2::server::handshake(far));
        let ((mut sending, connection), mut server) = (sending.unwrap(), server.unwrap());
        tokio::spawn(async move { connection.await.err() });
        let (peer, header) = (peer(), ResponseHeader::build_no_case(StatusCode::OK, None).unwrap());
        let (mut sent, mut held, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            sending = sending.ready().await.unwrap();
            let request = Request::get("https://localhost/").body(()).unwrap();
            sent.push(sending.send_request(request, true).unwrap());
            let (mut request, respond) = server.accept().await.unwrap().unwrap();
            let large: Arc<[u8]> = vec![b'a'; 8 * 1024].into();
            held.push(Arc::downgrade(&large));
            let large = HeaderValue::from_maybe_shared(Bytes::from_owner(large)).unwrap();
            request.headers_mut().insert("x-large", large);
            exchanges.push(Http2Exchange::new(request, respond, peer.clone(), Activity::new(), WRITE_TIMEOUT));
        }
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        assert!(held.iter().all(|large| large.strong_count() == 1));
        for exchange in &mut exchanges {
            exchange.write_head(ResponseHead::Plain(&header), &[]).await.unwrap();
            // Used by the access log.
            assert_eq!((exchange.request().uri.path(), exchange.status()), ("/", Some(StatusCode::OK)));
        }
        assert!(held.iter().all(|large| large.strong_count() == 0));
        let began = Instant::now();
        let ended = join_all(exchanges.iter_mut().map(|exchange| exchange.finish(Bytes::from_static(b"body")))).await;
        assert!(ended.iter().all(|end| *end.as_ref().unwrap_err().etype() == ErrorType::WriteTimedout), "{ended:?}");
        assert!(began.elapsed() >= WRITE_TIMEOUT);
        assert!(exchanges.iter().all(|exchange| exchange.body_bytes() == 0));
    }
}
