//! `[[service]]`, read field by field so that every error is reported.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::section::Section;
use super::service_balance::{self, read_addresses};
use super::service_tls;
use crate::framing::CanonicalPath;
use crate::route::RouteTable;
use crate::upstream::{self, Address, Balancing, Tls};
use holodule_settings::{Source, shown, shown_name};

/// Names of the backend's listeners, which metrics and logs have in the same place.
const RESERVED_NAMES: [&str; 2] = ["api", "admin"];

/// The maximum length of a name.
const MAX_NAME: usize = 64;

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name in routes, metrics and logs.
    pub name: String,
    /// At least one.
    pub addresses: Vec<Address>,
    /// How requests are distributed over the addresses.
    pub balancing: Balancing,
    /// Timeouts and limits of the connections to it.
    pub settings: upstream::Settings,
    /// Whether requests are HTTP/2.
    pub is_http2: bool,
    /// TLS on the connections to it, if any.
    pub tls: Option<Arc<Tls>>,
    /// Whether the gateway is ready only once it has responded.
    pub required: bool,
    /// The health checks.
    pub health: HealthCheck,
}

/// How each address of a service is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path of the request; `None` if a connection is enough.
    pub path: Option<Uri>,
    /// The status that the response must have; `None` for 200 to 399.
    pub status: Option<u16>,
    /// The time between two checks.
    pub interval: Duration,
    /// The number of failures in a row after which an address is down.
    pub failures: u64,
    /// The number of successes in a row after which an address that was down is up.
    pub successes: u64,
}

/// The services in their order, and a name for each table, including invalid ones, so that a route that names one of
/// those is not reported too.
#[derive(Default)]
pub(super) struct Services {
    pub(super) valid: Vec<Service>,
    names: Vec<String>,
}

impl Services {
    /// The position of the service with this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own == name)
    }

    /// Whether requests to the service at `place` are HTTP/2.
    pub(super) fn is_http2(&self, place: usize) -> bool {
        let name = self.names.get(place);
        self.valid.iter().any(|service| Some(&service.name) == name && service.is_http2)
    }
}

/// Reads the services.
pub(super) fn read_services(source: &mut Source) -> Services {
    let mut services = Services::default();
    for section in Section::list_without_secrets(source, "service").unwrap_or_default() {
        services.valid.extend(read_service(source, section, &mut services.names));
    }
    services
}

/// Reads one service, and adds its name to those of the earlier ones; `None` if a required field is missing or invalid.
fn read_service(source: &mut Source, mut section: Section, names: &mut Vec<String>) -> Option<Service> {
    let name = section.required(source, "name", "the name in routes, metrics and logs");
    if let Some(name) = &name
        && let Err(reason) = check_name(name, names)
    {
        section.problem(source, "name", format!("{} {reason}", shown(name)));
    }
    names.push(name.clone().unwrap_or_default());
    let addresses = read_addresses(source, &mut section);
    let balancing = service_balance::read(source, &mut section, addresses.as_deref(), name.as_deref());
    let settings = upstream::Settings {
        connect_timeout: section.seconds(source, "connect_timeout", 0.01..=60.0).unwrap_or(Duration::from_secs(1)),
        read_timeout: section.seconds(source, "read_timeout", 0.01..=3600.0).unwrap_or(Duration::from_secs(10)),
        request_timeout: section.seconds(source, "request_timeout", 0.01..=3600.0).unwrap_or(Duration::from_secs(30)),
        idle_timeout: section.seconds(source, "idle_timeout", 0.0..=3600.0).unwrap_or(Duration::from_secs(30)),
        max_connections: section
            .number(source, "max_connections", 4..=1_000_000)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(256),
    };
    let addresses = addresses.map(|weighted| weighted.into_iter().map(|(address, _)| address).collect::<Vec<_>>());
    let is_http2 = service_tls::read_is_http2(source, &mut section);
    let tls = service_tls::read(source, &mut section, addresses.as_deref().unwrap_or_default(), is_http2);
    let required = section.flag(source, "required");
    let health = read_health(source, &mut section);
    section.finish(source);
    Some(Service { name: name?, addresses: addresses?, balancing, settings, is_http2, tls, required, health })
}

fn read_health(source: &mut Source, section: &mut Section) -> HealthCheck {
    let path = section.text(source, "health_path").filter(|path| !path.is_empty());
    let has_path = path.is_some();
    let path = path.and_then(|path| {
        let uri = CanonicalPath::parse(&path).ok().and_then(|_| path.parse::<Uri>().ok());
        if uri.is_none() {
            section.problem(source, "health_path", format!("{} must be a canonical path", shown(&path)));
        }
        uri
    });
    let status = section.number(source, "health_status", 200..=599).and_then(|status| u16::try_from(status).ok());
    if status.is_some() && !has_path {
        section.problem(source, "health_status", "requires health_path");
    }
    HealthCheck {
        path,
        status,
        interval: section.seconds(source, "health_interval", 0.1..=3600.0).unwrap_or(Duration::from_secs(2)),
        failures: section.number(source, "health_failures", 1..=100).unwrap_or(1),
        successes: section.number(source, "health_successes", 1..=100).unwrap_or(1),
    }
}

fn check_name(name: &str, others: &[String]) -> Result<(), &'static str> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_valid) {
        Err("must have 1 to 64 characters of A-Z a-z 0-9 - . _")
    } else if RESERVED_NAMES.contains(&name) {
        Err("is a listener of the backend")
    } else if others.iter().any(|other| other == name) {
        Err("appears twice")
    } else {
        Ok(())
    }
}

/// A warning for each service without a route.
pub(super) fn warnings(services: &[Service], table: &RouteTable) -> Vec<String> {
    let is_used = |place| table.iter().any(|route| route.service == Some(place));
    let unused = services.iter().enumerate().filter(|(place, _)| !is_used(*place));
    unused
        .map(|(place, service)| format!("service[{place}]: no route has the service {}", shown_name(&service.name)))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Config;
    use super::super::route_tables::read_services_and_routes;
    use super::*;
    use holodule_settings::{Environment, Problem, Problems};

    pub(in super::super) fn read(toml: &str) -> Result<(Vec<Service>, RouteTable), Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let mut source = Source::read(Some(file.path()), Environment::default());
        let (services, routes) = read_services_and_routes(&mut source);
        let reported = |problem: Problem| format!("{}: {}", problem.subject(), problem.reason);
        source
            .finish_with(|| Some((services, routes?)))
            .map_err(|Problems(problems)| problems.into_iter().map(reported).collect())
    }

    /// The default of a service with these weights.
    fn balancing(weights: &[u32]) -> Balancing {
        let policy = upstream::Policy::RoundRobin;
        Balancing { policy, weights: weights.to_vec(), max_queue: Some(1024), ..Balancing::default() }
    }

    #[test]
    fn every_field_of_a_service_is_read_and_routes_name_services() {
        let (services, table) = read(
            "[[service]]\nname = 'app'\naddresses = ['127.0.0.1:3000', 'app.internal:3000', 'unix:/run/app.sock']\n\
             connect_timeout = 0.5\nread_timeout = 60\nrequest_timeout = 120.5\nidle_timeout = 0\nmax_connections = 4\n\
             required = true\nhealth_path = '/live'\nhealth_status = 204\nhealth_interval = 0.1\n\
             health_failures = 3\nhealth_successes = 2\n\
             [[service]]\nname = 'b'\naddresses = ['[::1]:1']\n\
             [[route]]\npath = '/b'\nmethods = ['GET']\nservice = 'b'\n\
             [[route]]\npath = '/app'\nmethods = ['GET']\nservice = 'app'\n\
             [[route]]\npath = '/c'\nmethods = ['GET']\n",
        )
        .unwrap();
        let seconds = Duration::from_secs_f64;
        let app = Service {
            name: "app".to_owned(),
            addresses: ["127.0.0.1:3000", "app.internal:3000", "unix:/run/app.sock"]
                .map(|text| text.parse().unwrap())
                .into(),
            balancing: balancing(&[1, 1, 1]),
            settings: upstream::Settings {
                connect_timeout: seconds(0.5),
                read_timeout: seconds(60.0),
                request_timeout: seconds(120.5),
                idle_timeout: seconds(0.0),
                max_connections: 4,
            },
            is_http2: false,
            tls: None,
            required: true,
            health: HealthCheck {
                path: Some(Uri::from_static("/live")),
                status: Some(204),
                interval: seconds(0.1),
                failures: 3,
                successes: 2,
            },
        };
        let b = Service {
            name: "b".to_owned(),
            addresses: vec!["[::1]:1".parse().unwrap()],
            balancing: balancing(&[1]),
            settings: upstream::Settings {
                connect_timeout: seconds(1.0),
                read_timeout: seconds(10.0),
                request_timeout: seconds(30.0),
                idle_timeout: seconds(30.0),
                max_connections: 256,
            },
            is_http2: false,
            tls: None,
            required: false,
            health: HealthCheck { path: None, status: None, interval: seconds(2.0), failures: 1, successes: 1 },
        };
        assert_eq!(services, [app, b]);
        assert_eq!(table.iter().map(|route| route.service).collect::<Vec<_>>(), [Some(1), Some(0), None]);
        assert!(warnings(&services, &table).is_empty());
        let unused = warnings(&services, &RouteTable::new(table.iter().take(1).cloned().collect(), Vec::new()));
        assert_eq!(unused, ["service[0]: no route has the service \"app\""]);
    }

    #[test]
    fn every_error_is_reported_with_its_key() {
        let reported = read(
            "[[service]]\nname = 'api'\naddresses = ['a:1', 'a:1']\n\
             [[service]]\nname = 'admin'\naddresses = []\nrequired = 1\n\
             [[service]]\nname = 'a b'\naddresses = 'a:1'\nhealth_path = '/a/../b'\nhealth_interval = 0\n\
             [[service]]\nname = 'x'\naddresses = ['http://a']\nhealth_status = 204\nhealth_failures = 0\nmax_connections = 3\nread_timeout = 'long'\n\
             [[service]]\nname = 'x'\naddresses = ['a:0']\nconnect_timeout = -1\nport = 1\n\
             [[service]]\n\
             [[route]]\npath = '/a'\nmethods = ['GET']\nservice = 'y'\n\
             [[route]]\npath = '/b'\nmethods = ['GET']\nservice = ''\n\
             [[route]]\npath = '/c'\nmethods = ['GET']\nservice = 1\n\
             [[route]]\npath = '/e'\nmethods = ['GET']\nservice = 'x'\n",
        )
        .unwrap_err();
        let expected = [
            "service[0].name: \"api\" is a listener of the backend",
            "service[0].addresses: \"a:1\" appears twice",
            "service[1].name: \"admin\" is a listener of the backend",
            "service[1].addresses: must have at least one",
            "service[1].required: must be true or false, not 1",
            "service[2].name: \"a b\" must have 1 to 64 characters of A-Z a-z 0-9 - . _",
            "service[2].addresses: must be a list of strings, or of { address = \"...\", weight = ... }",
            "service[2].health_path: \"/a/../b\" must be a canonical path",
            "service[2].health_interval: must be a number of seconds from 0.1 to 3600, not 0",
            "service[3].addresses: \"http://a\" the port must be from 1 to 65535",
            "service[3].read_timeout: must be a number of seconds from 0.01 to 3600, not a string",
            "service[3].max_connections: must be a whole number from 4 to 1000000, not 3",
            "service[3].health_status: requires health_path",
            "service[3].health_failures: must be a whole number from 1 to 100, not 0",
            "service[4].name: \"x\" appears twice",
            "service[4].addresses: \"a:0\" the port must be from 1 to 65535",
            "service[4].connect_timeout: must be a number of seconds from 0.01 to 60, not -1",
            "service[4].port: unknown key",
            "service[5].name: is required: the name in routes, metrics and logs",
            "service[5].addresses: is required: host:port or unix:/path, at least one",
            "route[0].service: \"y\" is not a service",
            "route[1].service: \"\" is not a service",
            "route[2].service: must be a string, not 1",
        ];
        assert_eq!(reported, expected);
        let reported = read("[[route]]\npath = '/a'\nmethods = ['GET']\nservice = 'api'\n").unwrap_err();
        assert_eq!(reported, ["route[0].service: \"api\" is not a service: without one, requests go to upstream.api"]);
    }

    #[test]
    fn a_service_with_http2_has_no_websocket_routes() {
        let reported = read(
            "[[service]]\nname = 'one'\naddresses = ['a:1']\nhttp = '1.1'\n\
             [[service]]\nname = 'two'\naddresses = ['b:1']\nhttp = '2'\n\
             [[route]]\npath = '/a'\nmethods = ['GET']\nservice = 'one'\nupgrade = 'websocket'\ncache = false\n\
             [[route]]\npath = '/b'\nmethods = ['GET']\nservice = 'two'\nupgrade = 'websocket'\ncache = false\n\
             [[route]]\npath = '/c'\nmethods = ['GET']\nservice = 'two'\n",
        );
        assert_eq!(reported.unwrap_err(), ["route[1].upgrade: cannot be given for a service with http = \"2\""]);
    }

    #[test]
    fn the_connections_and_checks_of_all_services_count_towards_the_open_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let services = "[[service]]\nname = 'a'\naddresses = ['a:1', 'b:1']\nmax_connections = 100\n\
             [[service]]\nname = 'b'\naddresses = ['c:1']\n";
        std::fs::write(file.path(), services).unwrap();
        let is_reported = |available| {
            let Err(Problems(problems)) = Config::read_within(Some(file.path()), Environment::default(), available)
            else {
                panic!("without a certificate")
            };
            problems.iter().any(|problem| problem.key == "listener.max_connections")
        };
        let needed = 15_000 + 2 * 1024 + 256 + (100 + 2) + (256 + 1);
        assert!(!is_reported(needed) && is_reported(needed - 1));
    }
}
