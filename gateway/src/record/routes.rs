//! Which service each route uses, so that queries can group the metrics of routes by service.

use prometheus::{IntGaugeVec, Opts, Registry};

/// A route as Prometheus describes it.
#[derive(Clone, Copy, Debug)]
pub struct RouteInfo<'a> {
    /// The name of the route.
    pub route: &'a str,
    /// The service that answers its requests, `api` or `admin` for the backend, and `none` for the gateway itself.
    pub service: &'a str,
    /// Whether its responses may never end, so that their duration means nothing.
    pub stream: bool,
}

/// The metric that describes the routes.
pub struct Routes(IntGaugeVec);

impl Routes {
    /// Registers the metric, without series.
    ///
    /// # Errors
    /// Another metric has the same name: a bug in this file.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "gateway_route_info",
            "The service of each route, and whether its responses may never end; always 1.",
        );
        let routes = IntGaugeVec::new(opts, &["route", "service", "stream"])?;
        registry.register(Box::new(routes.clone()))?;
        Ok(Self(routes))
    }

    /// Replaces the routes. Each name must occur once: queries join by it.
    pub fn replace<'a>(&self, routes: impl IntoIterator<Item = RouteInfo<'a>>) {
        self.0.reset();
        for RouteInfo { route, service, stream } in routes {
            self.0.with_label_values(&[route, service, if stream { "true" } else { "false" }]).set(1);
        }
    }
}
