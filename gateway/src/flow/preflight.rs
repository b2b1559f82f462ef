//! CORS: which policy a request has, and the response to a preflight.

use std::sync::Arc;

use http::Method;
use pingora::Result;

use super::body::has_content;
use super::{Context, Flow, Reason};
use crate::cors::requested_method;
use crate::downstream::Downstream;
use crate::framing::{CanonicalPath, Target};
use crate::respond::LocalResponse;
use crate::route::Route;

impl Flow {
    /// Applies the CORS policy of the route with this path, and returns the route, if it has one of its own. This comes
    /// before the token check, since scripts read refusals as well.
    pub(super) fn apply_route_cors(
        &self,
        downstream: &impl Downstream,
        ctx: &mut Context,
        host: &str,
        path: &CanonicalPath<'_>,
    ) -> Option<&Arc<Route>> {
        let route = self.routes.find_cors(host, path)?;
        if let Some(policy) = &route.cors {
            ctx.sharing = policy.sharing(&downstream.request().headers);
        }
        Some(route)
    }

    /// The response to a request, if it is a preflight from an allowed origin. It is the same for every path, so that it
    /// does not reveal the routes, except those with a policy of their own. `route` is such a route; without the
    /// requested method it has no preflight.
    ///
    /// # Errors
    /// The client did not send a complete request.
    pub(super) async fn preflight(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        target: &Target,
        route: Option<&Arc<Route>>,
    ) -> Result<Option<LocalResponse>> {
        let request = downstream.request();
        if !ctx.sharing.is_preflight(&request.method, &request.headers) {
            return Ok(None);
        }
        let answer = match route.and_then(|route| Some((route, route.cors.as_ref()?))) {
            Some((route, policy)) => {
                let requested = requested_method(&request.headers);
                let is_of_route = |method: &Method| requested.is_some_and(|requested| requested == method.as_str());
                let Some(method) = requested.filter(|_| route.methods.iter().any(is_of_route)) else { return Ok(None) };
                ctx.route = Some(Arc::clone(&route.name));
                LocalResponse::preflight_of_route(method.clone(), policy)
            }
            None => {
                let mut methods = self.routes.methods();
                if (self.login.is_some() || self.tickets.is_some()) && !methods.contains(&&Method::POST) {
                    methods.push(&Method::POST);
                }
                LocalResponse::preflight(&methods)
            }
        };
        ctx.reason = Some(Reason::Preflight);
        let has_content = has_content(downstream, target.body, self.settings.body_timeout).await?;
        Ok(Some(if has_content { LocalResponse::unexpected_body() } else { answer }))
    }
}
