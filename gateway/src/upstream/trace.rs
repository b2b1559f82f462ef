//! The spans of the attempts to send a request, if its trace is sampled.

use std::time::SystemTime;

use holodule_telemetry::{Outcome, Recording, Span, SpanKind, TRACEPARENT, Tracer, attribute};
use http::{Method, Request, Response};

use super::Upstream;
use super::exchange::{ExchangeError, ResponseBody};

/// The span of a request, in its extensions. Each attempt to send the request gets a span below it.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Records the spans.
    pub tracer: Tracer,
    /// The span of the request.
    pub span: Span,
}

/// An attempt that has not ended. It ends when it is dropped.
pub(super) struct AttemptSpan(Option<Recording>);

impl Traced {
    /// Begins the span of an attempt at the address at `place`, and makes it the parent of what the service does.
    /// `is_retry` says that the request may have been sent before.
    pub(super) fn begin<B>(
        &self,
        upstream: &Upstream,
        (place, is_retry): (usize, bool),
        request: &mut Request<B>,
    ) -> AttemptSpan {
        let mut attempt = self.record(request.method());
        if let Some((span, recording)) = &mut attempt {
            request.headers_mut().insert(TRACEPARENT, span.context().to_value());
            if let Some((address, _)) = upstream.addresses.get(place) {
                let (host, port) = address.host_and_port();
                recording.set(attribute::SERVER_ADDRESS, host);
                if let Some(port) = port {
                    recording.set(attribute::SERVER_PORT, i64::from(port));
                }
            }
            let version = if upstream.multiplexers.is_some() { "2" } else { "1.1" };
            recording.set(attribute::NETWORK_PROTOCOL_VERSION, version);
            if is_retry {
                recording.set(attribute::HTTP_REQUEST_RESEND_COUNT, 1);
            }
        }
        AttemptSpan(attempt.map(|(_, recording)| recording))
    }

    /// Records an attempt for which there was no connection.
    pub(super) fn unreachable(&self, method: &Method) {
        if let Some((_, mut recording)) = self.record(method) {
            recording.set_outcome(Outcome::Failure("unreachable".into()));
        }
    }

    fn record(&self, method: &Method) -> Option<(Span, Recording)> {
        let span = self.span.child();
        let name = method_name(method);
        let mut recording = self.tracer.record(&span, SpanKind::Client, name, SystemTime::now())?;
        recording.set(attribute::HTTP_REQUEST_METHOD, name);
        Some((span, recording))
    }
}

impl AttemptSpan {
    /// Ends the span with the result of the exchange. Otherwise it is dropped, because its time was over or the client
    /// left.
    pub(super) fn end(mut self, exchanged: &Result<Response<ResponseBody>, ExchangeError>) {
        let Some(mut recording) = self.0.take() else { return };
        match exchanged {
            Ok(response) => {
                let status = response.status();
                recording.set(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
                // For a client, these are errors as well.
                if status.is_client_error() || status.is_server_error() {
                    recording.set_outcome(Outcome::Failure(status.as_str().to_owned().into()));
                }
            }
            Err(error) => recording.set_outcome(Outcome::Failure(error.label().into())),
        }
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if let Some(recording) = &mut self.0 {
            recording.set_outcome(Outcome::Failure("cancelled".into()));
        }
    }
}

/// The method, unless it is one that only few services know.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}
