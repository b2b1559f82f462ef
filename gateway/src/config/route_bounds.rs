//! The fields of `[[route]]` that bound requests.

use ipnet::IpNet;

use super::section::Section;
use crate::client::{Networks, parse_client_network};
use crate::limit::Quota;
use crate::route::{Bounds, Limit, LimitBy, Timeouts};
use holodule_settings::{Source, shown};

/// One tebibyte.
const MAX_BODY_BYTES: u64 = 1 << 40;

/// Reads the bounds of a route.
pub(super) fn read(source: &mut Source, section: &mut Section) -> Bounds {
    let max_body_bytes = section.number(source, "max_body_bytes", 0..=MAX_BODY_BYTES);
    let timeouts = read_timeouts(source, section);
    let networks =
        Networks { allow: read_networks(source, section, "allow"), deny: read_networks(source, section, "deny") };
    let limit = read_limit(source, section);
    Bounds { max_body_bytes: max_body_bytes.filter(|&limit| limit > 0), timeouts, networks, limit }
}

fn read_limit(source: &mut Source, section: &mut Section) -> Option<Limit> {
    let mut limit = section.table(source, "limit")?;
    if limit.is_empty() {
        return None;
    }
    const EXPECTED: &str = "\"address\", \"identity\" or \"path\"";
    let by = match limit.required(source, "by", EXPECTED).as_deref() {
        Some("address") => Some(LimitBy::Address),
        Some("identity") => Some(LimitBy::Identity),
        Some("path") => Some(LimitBy::Path),
        Some(_) => {
            limit.problem(source, "by", format!("must be {EXPECTED}"));
            None
        }
        None => None,
    };
    let mut number = |field: &str| {
        let number = limit.required_number(source, field, 1..=1_000_000)?;
        u32::try_from(number).ok()
    };
    let (rate, burst) = (number("rate"), number("burst"));
    let query = limit.text(source, "query").filter(|name| !name.is_empty());
    limit.finish(source);
    Some(Limit { quota: Quota { rate: rate?, burst: burst? }, by: by?, query })
}

fn read_networks(source: &mut Source, section: &mut Section, field: &str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in section.optional_texts(source, field) {
        match parse_client_network(&text) {
            Ok(network) => networks.push(network),
            Err(error) => section.problem(source, field, format!("{} {error}", shown(&text))),
        }
    }
    networks
}

fn read_timeouts(source: &mut Source, section: &mut Section) -> Timeouts {
    let Some(mut timeout) = section.table(source, "timeout") else { return Timeouts::default() };
    let timeouts = Timeouts {
        connect: timeout.seconds(source, "connect", 0.01..=60.0),
        first_byte: timeout.seconds(source, "first_byte", 0.01..=3600.0),
        idle: timeout.seconds(source, "idle", 0.01..=3600.0),
        total: timeout.seconds(source, "total", 0.0..=86_400.0),
    };
    timeout.finish(source);
    timeouts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::route_tables::read_routes;
    use super::*;
    use holodule_settings::{Environment, Problem, Problems};

    fn read(fields: &str) -> Result<Bounds, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[[route]]\nmethods = ['GET']\npath = '/a'\n{fields}")).unwrap();
        let mut source = Source::read(Some(file.path()), Environment::default());
        let table = read_routes(&mut source);
        let bounds = table.and_then(|table| Some(table.iter().next()?.bounds.clone()));
        let reported = |problem: Problem| format!("{}: {}", problem.subject(), problem.reason);
        source.finish_with(|| bounds).map_err(|Problems(problems)| problems.into_iter().map(reported).collect())
    }

    #[test]
    fn without_its_fields_a_route_has_no_bounds() {
        assert_eq!(read("").unwrap(), Bounds::default());
        let none = "max_body_bytes = 0\ntimeout = {}\nallow = []\ndeny = []\nlimit = {}\n";
        assert_eq!(read(none).unwrap(), Bounds::default());
    }

    #[test]
    fn every_bound_of_a_route_is_read() {
        let bounds = read(
            "max_body_bytes = 1000\nallow = ['10.0.0.0/8', '::1']\ndeny = ['10.1.2.3']\n\
             limit = { rate = 2, burst = 3, by = 'identity' }\n\
             [route.timeout]\nconnect = 0.5\nfirst_byte = 60\nidle = 1.5\ntotal = 0\n",
        )
        .unwrap();
        assert_eq!(bounds.max_body_bytes, Some(1000));
        assert_eq!((bounds.networks.allow.len(), bounds.networks.deny.len()), (2, 1));
        assert_eq!(
            bounds.limit,
            Some(Limit { quota: Quota { rate: 2, burst: 3 }, by: LimitBy::Identity, query: None })
        );
        let limit = |fields| read(fields).unwrap().limit.unwrap();
        let by_path = limit("public = true\nlimit = { rate = 2, burst = 3, by = 'path', query = '' }");
        assert_eq!((by_path.by, by_path.query), (LimitBy::Path, None));
        let with_query = limit("limit = { rate = 2, burst = 3, by = 'address', query = 'q' }");
        assert_eq!(with_query.query.as_deref(), Some("q"));
        let expected = Timeouts {
            connect: Some(Duration::from_millis(500)),
            first_byte: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_millis(1500)),
            total: Some(Duration::ZERO),
        };
        assert_eq!(bounds.timeouts, expected);
    }

    #[test]
    fn every_invalid_bound_is_reported() {
        let reported = read(
            "max_body_bytes = -1\nallow = ['10.0.0.1/8', 'all', '::ffff:10.0.0.0/104']\ndeny = '10.0.0.1'\npublic = true\n\
             limit = { rate = 0, by = 'identity', window = 1 }\n\
             timeout = { connect = 0, first_byte = '1', idle = nan, total = 1e9, read = 1 }\n",
        )
        .unwrap_err();
        let expected = [
            "route[0].max_body_bytes: must be a whole number from 0 to 1099511627776, not -1",
            "route[0].timeout.connect: must be a number of seconds from 0.01 to 60, not 0",
            "route[0].timeout.first_byte: must be a number of seconds from 0.01 to 3600, not a number in quotes",
            "route[0].timeout.idle: must be a number of seconds from 0.01 to 3600, not this number",
            "route[0].timeout.total: must be a number of seconds from 0 to 86400, not 1000000000",
            "route[0].timeout.read: unknown key",
            "route[0].allow: \"10.0.0.1/8\" has bits set behind its prefix",
            "route[0].allow: \"all\" must be an IP address, or a network such as 10.0.0.0/8",
            "route[0].allow: \"::ffff:10.0.0.0/104\" is an IPv4 network: write it as one",
            "route[0].deny: must be a list of strings, not a string",
            "route[0].limit.rate: must be a whole number from 1 to 1000000, not 0",
            "route[0].limit.burst: is required: a whole number",
            "route[0].limit.window: unknown key",
        ];
        assert_eq!(reported, expected);
        let reported = read("public = true\nlimit = { rate = 1, burst = 1, by = 'identity' }\n").unwrap_err();
        assert_eq!(reported, ["route[0].limit.by: cannot be \"identity\" on a public route, whose requests have none"]);
        let limit = "limit = { rate = 1, burst = 1, by = 'path', query = 'a b' }\n";
        let expected = [
            "route[0].limit.by: can be \"path\" only on a public route that is not cached and has no {*name}",
            "route[0].limit.query: \"a b\" has a character outside A-Z a-z 0-9 - . _ ~",
        ];
        assert_eq!(read(limit).unwrap_err(), expected);
        assert_eq!(read(&format!("{limit}public = true\nshared = true")).unwrap_err(), expected);
        let reported = read("limit = { rate = 1, burst = 1, by = 'user' }\n").unwrap_err();
        assert_eq!(reported, ["route[0].limit.by: must be \"address\", \"identity\" or \"path\""]);
    }
}
