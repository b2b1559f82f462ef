//! The routes of both listeners, with one handler for each operation and the checks before it in their order.
//!
//! Paths are matched as they are spelled: the gateway forwards only canonical ones. On the admin listener, a segment
//! that is a name is percent-decoded once.

mod admin;
mod api;

use std::borrow::Cow;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use self::admin::AdminRoute;
use self::api::ApiRoute;
use crate::handler::App;
use crate::record::Listener;
use crate::respond::{Body, Shape};

/// The templates of responses that end only when the service stops.
pub(crate) const ENDLESS: [&str; 2] = [admin::FEED, api::STREAM];

/// A response with the template of its route.
pub(crate) struct RoutedResponse {
    /// The label for metrics and logs; never the raw path.
    pub(crate) route: &'static str,
    pub(crate) response: Response<Body>,
}

/// The form of errors of the route of `path`.
pub(crate) fn error_shape(listener: Listener, path: &str) -> Shape {
    match listener {
        Listener::Api => ApiRoute::of(path).shape(),
        Listener::Admin => Shape::Described,
    }
}

/// Handles a request received on `listener`.
pub(crate) async fn handle(app: &Arc<App>, listener: Listener, request: Request<Incoming>) -> RoutedResponse {
    let path = request.uri().path().to_owned();
    let (route, handled, shape) = match listener {
        Listener::Api => {
            let route = ApiRoute::of(&path);
            let (template, shape) = (route.template(), route.shape());
            (template, Box::pin(api::handle(app, route, request)).await, shape)
        }
        Listener::Admin => {
            let route = AdminRoute::of(&path).with_page(app.has_page());
            (route.template(), Box::pin(admin::handle(app, route, request)).await, Shape::Described)
        }
    };
    RoutedResponse { route, response: handled.unwrap_or_else(|error| error.into_response(shape)) }
}

/// One path segment, percent-decoded. `None` if it is empty, contains a slash or is not UTF-8.
fn segment(raw: &str) -> Option<Cow<'_, str>> {
    if raw.is_empty() || raw.contains('/') {
        return None;
    }
    percent_decode_str(raw).decode_utf8().ok()
}
