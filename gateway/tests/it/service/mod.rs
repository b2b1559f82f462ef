//! Several services behind one gateway.

mod admin;
mod ejection;
mod failover;
mod http2;
mod outage;
mod policy;
mod ready;
mod route;
mod tls;

use crate::support::Gateway;

/// A gateway without a backend of its own: no logins, no revocations.
fn start(services: &str, routes: &str, settings: &[(&str, &str)]) -> Gateway {
    let mut all = vec![("LOGIN_ENABLED", "false"), ("SERVICE", services), ("ROUTE", routes)];
    all.extend_from_slice(settings);
    Gateway::start_from(&all)
}

/// A service with these addresses and further fields.
fn service(name: &str, addresses: &[&str], fields: &str) -> String {
    let addresses: Vec<_> = addresses.iter().map(|address| format!("'{address}'")).collect();
    format!("{{ name = '{name}', addresses = [{}], max_connections = 32{fields} }}", addresses.join(", "))
}

/// A route with a tail after `/name/`, to the service of this name.
fn route(name: &str) -> String {
    format!("{{ name = '{name}', path = '/{name}/{{*rest}}', methods = ['GET', 'PUT', 'POST'], service = '{name}' }}")
}
