//! What the exchange of a request and its caller pass to each other until there is a response.

use std::future::{Future, poll_fn};
use std::mem::take;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use http::HeaderValue;
use http::request::Parts;
use tokio::time::Instant;

use super::interim::EarlyHints;

/// What the sender of a request does until there is a response, and with interim ones.
#[derive(Clone, Copy, Debug)]
pub enum Interim<'a> {
    /// It discards them.
    Discard,
    /// It receives early hints, and builds the head of a retry.
    Notify(&'a Caller),
    /// It requests a switch to another protocol: a 101 is a response.
    Switch,
}

impl<'a> Interim<'a> {
    /// The sender, if it takes part in the exchange.
    pub(super) fn caller(self) -> Option<&'a Caller> {
        if let Self::Notify(caller) = self { Some(caller) } else { None }
    }
}

/// The caller of an exchange: it receives early hints, and builds the head of the request again for a retry. A copy of
/// the head would cost more than 1 % of a request, and few are retried.
#[derive(Debug, Default)]
pub struct Caller {
    pub(super) hints: EarlyHints,
    head: Mutex<HeadRequest>,
}

/// The request for the head of a retry.
#[derive(Debug, Default)]
enum HeadRequest {
    #[default]
    None,
    /// The response to the retry must begin until then.
    Made(Instant),
    Fulfilled(Box<Parts>),
}

/// What happens while a caller waits for the response.
#[derive(Debug)]
pub enum Event {
    /// These `Link` fields of early hints were received.
    Hints(Vec<HeaderValue>),
    /// The request is retried: its head goes to [`Caller::put_head`]. The deadline of the response head is this one, as
    /// of the first attempt.
    HeadWanted(Instant),
    /// There is a response, or an error.
    Response,
}

impl Caller {
    /// Waits for the next event of the exchange `response`. The response is put into `arrived`, since a large result would
    /// be copied by each caller; after any other event, `response` is polled again.
    pub fn event<T>(
        &self,
        mut response: Pin<&mut impl Future<Output = T>>,
        arrived: &mut Option<T>,
    ) -> impl Future<Output = Event> {
        poll_fn(move |cx| {
            if arrived.is_none()
                && let Poll::Ready(response) = response.as_mut().poll(cx)
            {
                *arrived = Some(response);
            }
            let links = self.hints.take();
            if !links.is_empty() {
                return Poll::Ready(Event::Hints(links));
            }
            if arrived.is_some() {
                return Poll::Ready(Event::Response);
            }
            if let HeadRequest::Made(by) = *self.head() { Poll::Ready(Event::HeadWanted(by)) } else { Poll::Pending }
        })
    }

    /// Provides the head that was wanted.
    pub fn put_head(&self, parts: Parts) {
        *self.head() = HeadRequest::Fulfilled(Box::new(parts));
    }

    /// Requests the head for a response that must begin until `by`. The caller polls this again once it has provided it.
    pub(super) async fn request_head(&self, by: Instant) -> Parts {
        *self.head() = HeadRequest::Made(by);
        poll_fn(|_| {
            let mut head = self.head();
            match take(&mut *head) {
                HeadRequest::Fulfilled(parts) => Poll::Ready(*parts),
                unfulfilled => {
                    *head = unfulfilled;
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn head(&self) -> MutexGuard<'_, HeadRequest> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http::Request;

    use super::*;

    #[tokio::test]
    async fn the_caller_builds_the_head_when_it_is_wanted() {
        let caller = Caller::default();
        let by = Instant::now();
        let mut exchange = pin!(async { (caller.request_head(by).await.uri, caller.request_head(by).await.uri) });
        let mut arrived = None;
        for path in ["/a", "/b"] {
            let event = caller.event(exchange.as_mut(), &mut arrived).await;
            assert!(matches!(event, Event::HeadWanted(wanted) if wanted == by), "{event:?}");
            caller.put_head(Request::get(path).body(()).unwrap().into_parts().0);
        }
        assert!(matches!(caller.event(exchange.as_mut(), &mut arrived).await, Event::Response));
        assert_eq!(arrived.unwrap(), ("/a".parse().unwrap(), "/b".parse().unwrap()));
    }
}
