//! One request of HTTP/2, and its answer.

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

use super::activity::{Activity, Upload};
use crate::downstream::date::date;
use crate::downstream::{Added, Downstream, Head, Peer, client_left, may_have_body};

/// One request, and its answer.
pub(super) struct Http2Exchange {
    request: Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    peer: Peer,
    activity: Arc<Activity>,
    write_timeout: Duration,
    /// The head of the answer, until it is known whether anything follows it.
    head: Option<Response<()>>,
    out: Option<SendStream<Bytes>>,
    status: Option<StatusCode>,
    /// Whether the answer may have a body.
    has_body: bool,
    sent: usize,
    /// While the body of the request is passed on.
    upload: Option<Upload>,
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
        let (head, out, status, upload) = (None, None, None, None);
        let (has_body, sent) = (true, 0);
        Self { request, body, respond, peer, activity, write_timeout, head, out, status, has_body, sent, upload }
    }

    /// Sends the head, where it has not been, and with it the end of the answer where that is
    /// `last`.
    fn send_head(&mut self, is_last: bool) -> Result<()> {
        if let Some(head) = self.head.take() {
            self.out = Some(self.respond.send_response(head, is_last).map_err(unwritten)?);
        }
        Ok(())
    }

    /// Sends `data` as the client's window and our own bound allow.
    async fn send(&mut self, mut data: Bytes, is_last: bool) -> Result<()> {
        let write_timeout = self.write_timeout;
        let out = self.out.as_mut();
        let out = out.ok_or_else(|| Error::explain(ErrorType::WriteError, "a body without a head").into_in())?;
        while !data.is_empty() {
            out.reserve_capacity(data.len());
            let mut room = out.capacity();
            if room == 0 {
                let granted = timeout(write_timeout, poll_fn(|cx| out.poll_capacity(cx))).await;
                let granted = granted.map_err(|_| Error::explain(ErrorType::WriteTimedout, "no window").into_down())?;
                room = granted.ok_or_else(client_left)?.map_err(unwritten)?;
            }
            let piece = data.split_to(room.min(data.len()));
            self.sent += piece.len();
            out.send_data(piece, is_last && data.is_empty()).map_err(unwritten)?;
        }
        Ok(())
    }
}

fn unwritten(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "an answer could not be written", error).into_down()
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

    /// A stream ends by itself, and the others of its connection go on.
    fn close_after(&mut self) {}

    fn expect_upload(&mut self) {
        self.upload.get_or_insert_with(|| self.activity.begin_upload());
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let unread = |error| Error::because(ErrorType::ReadError, "a body could not be read", error).into_down();
        let Some(data) = self.body.data().await else {
            // Trailers go nowhere, but the stream counts as read only once they are.
            self.body.trailers().await.map_err(unread)?;
            return Ok(None);
        };
        let data = data.map_err(unread)?;
        // Taken in: the client may send as much again.
        self.body.flow_control().release_capacity(data.len()).map_err(unread)?;
        Ok(Some(data))
    }

    async fn send_continue(&mut self) -> Result<()> {
        // h2 sends an interim response on a stream that was reset as well (RFC 9113, section 5.1).
        if poll_fn(|cx| Poll::Ready(self.respond.poll_reset(cx).is_ready())).await {
            return Err(client_left());
        }
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::CONTINUE;
        self.respond.send_informational(interim).map_err(unwritten)
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
            Ok(_) => client_left(),
            Err(error) => Error::because(ErrorType::ReadError, "the connection broke", error).into_down(),
        }
    }

    async fn write_head(&mut self, head: Head<'_>, added: &[Added<'_>]) -> Result<()> {
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
        self.has_body = may_have_body(&self.request.method, header.status);
        // Nobody asks for them any more, and a client that takes nothing may hold many requests.
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

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        let last = if self.has_body { last } else { Bytes::new() };
        let is_whole = self.head.is_some();
        self.send_head(last.is_empty())?;
        if !last.is_empty() {
            return self.send(last, true).await;
        }
        match self.out.as_mut() {
            Some(out) if !is_whole => out.send_data(last, true).map_err(unwritten),
            _ => Ok(()),
        }
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
    async fn requests_whose_answers_get_no_window_hold_no_fields() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut options = h2::client::Builder::new();
        options.initial_window_size(0);
        let (sending, server) = tokio::join!(options.handshake::<_, Bytes>(near), h2::server::handshake(far));
        let ((mut sending, connection), mut server) = (sending.unwrap(), server.unwrap());
        tokio::spawn(async move { connection.await.err() });
        let (peer, header) = (peer(), ResponseHeader::build_no_case(StatusCode::OK, None).unwrap());
        let (mut asked, mut held, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            sending = sending.ready().await.unwrap();
            let request = Request::get("https://localhost/").body(()).unwrap();
            asked.push(sending.send_request(request, true).unwrap());
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
            exchange.write_head(Head::Own(&header), &[]).await.unwrap();
            // For the log.
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
