//! The addresses of a `[[service]]`, and how requests are distributed over them.

use serde::Deserialize;
use toml::{Table, Value};

use super::section::Section;
use crate::syntax::is_tchar;
use crate::upstream::{Address, Balancing, Ejection, HashBy, MAX_ADDRESSES, MAX_WEIGHT, Policy};
use holodule_settings::{Source, shown};

/// The maximum length of the name of a cookie: that of a service, after the prefix.
const MAX_COOKIE_NAME: usize = 72;

/// One string, or a list of strings.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            // A variable is read as a string first. No address is a list.
            OneOrMany::One(text) => match format!("list = {text}").parse::<Table>().map(Table::try_into::<List>) {
                Ok(Ok(List { list })) => list,
                _ => vec![text],
            },
            OneOrMany::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
struct List {
    list: Vec<String>,
}

/// Reads the addresses of the admin listener, which all belong to backends with the same store.
pub(super) fn read_admin(source: &mut Source) -> Vec<Address> {
    const KEY: &str = "upstream.admin";
    let texts = source.get::<OneOrMany>(KEY).map(Vec::from);
    let Some(texts) = texts else { return vec![Address::Inet(([127, 0, 0, 1], 8081).into())] };
    if texts.is_empty() || texts.len() > MAX_ADDRESSES {
        source.problem(KEY, format!("must have 1 to {MAX_ADDRESSES} addresses"));
    }
    let is_one = texts.len() == 1;
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<Address>() {
            Ok(address) if addresses.contains(&address) => {
                source.problem(KEY, format!("{} appears twice", shown(&text)));
            }
            Ok(address) => addresses.push(address),
            Err(error) if is_one => source.problem(KEY, error.to_string()),
            Err(error) => source.problem(KEY, format!("{} {error}", shown(&text))),
        }
    }
    addresses
}

/// Reads the addresses of a service with their weights; `None` if none is valid.
pub(super) fn read_addresses(source: &mut Source, section: &mut Section) -> Option<Vec<(Address, u32)>> {
    const FORM: &str = "must be a list of strings, or of { address = \"...\", weight = ... }";
    let values = section.values(source, "addresses", "host:port or unix:/path, at least one", FORM)?;
    if values.is_empty() {
        section.problem(source, "addresses", "must have at least one");
    }
    if values.len() > MAX_ADDRESSES {
        section.problem(source, "addresses", format!("must be at most {MAX_ADDRESSES}"));
        return None;
    }
    let is_form = |value: &Value| value.is_str() || value.as_table().is_some_and(|table| table.contains_key("address"));
    if !values.iter().all(is_form) {
        section.problem(source, "addresses", FORM);
        return None;
    }
    let mut addresses: Vec<(Address, u32)> = Vec::new();
    for (place, value) in values.into_iter().enumerate() {
        let Some((address, weight)) = read_address(source, section, place, value) else { continue };
        if addresses.iter().any(|(other, _)| *other == address) {
            section.problem(source, "addresses", format!("{} appears twice", shown(&address.to_string())));
        } else {
            addresses.push((address, weight));
        }
    }
    if !addresses.is_empty() && addresses.iter().all(|(_, weight)| *weight == 0) {
        section.problem(source, "addresses", "must have at least one with a weight above 0");
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// Reads one address, with its weight if it is a table.
fn read_address(source: &mut Source, section: &Section, place: usize, value: Value) -> Option<(Address, u32)> {
    let (text, weight) = match value {
        Value::String(text) => (text, 1),
        Value::Table(fields) => {
            let mut entry = section.entry("addresses", place, fields);
            let text = entry.text(source, "address");
            let weight = entry.number(source, "weight", 0..=u64::from(MAX_WEIGHT)).unwrap_or(1);
            entry.finish(source);
            (text?, u32::try_from(weight).unwrap_or(MAX_WEIGHT))
        }
        _ => return None,
    };
    match text.parse() {
        Ok(address) => Some((address, weight)),
        Err(error) => {
            section.problem(source, "addresses", format!("{} {error}", shown(&text)));
            None
        }
    }
}

/// Reads the policy and the ejection of the service `name` at `addresses`.
pub(super) fn read(
    source: &mut Source,
    section: &mut Section,
    addresses: Option<&[(Address, u32)]>,
    name: Option<&str>,
) -> Balancing {
    let addresses = addresses.unwrap_or_default();
    let policy = read_policy(source, section, name).unwrap_or(Policy::RoundRobin);
    if matches!(policy, Policy::ConsistentHash(_)) {
        for (address, _) in addresses.iter().filter(|(address, _)| matches!(address, Address::Unix(_))) {
            let reason = format!(
                "cannot be \"consistent_hash\" with {}: a Unix socket has no place on the ring",
                shown(&address.to_string())
            );
            section.problem(source, "policy", reason);
        }
    }
    Balancing {
        policy,
        weights: addresses.iter().map(|(_, weight)| *weight).collect(),
        ejection: read_ejection(source, section),
        max_queue: Some(read_count(source, section, "max_queue", 0..=1_000_000, 1024)),
    }
}

fn read_policy(source: &mut Source, section: &mut Section, name: Option<&str>) -> Option<Policy> {
    let text = section.text(source, "policy");
    let has_policy = |name: &str| text.as_deref() == Some(name);
    for (field, policy) in [("hash_by", "consistent_hash"), ("cookie", "sticky")] {
        if section.has(field) && !has_policy(policy) {
            section.drop(field);
            section.problem(source, field, format!("is only for the policy \"{policy}\""));
        }
    }
    match text.as_deref()? {
        "round_robin" => Some(Policy::RoundRobin),
        "least_connections" => Some(Policy::LeastConnections),
        "consistent_hash" => match section.required(source, "hash_by", "\"identity\" or \"path\"")?.as_str() {
            "identity" => Some(Policy::ConsistentHash(HashBy::Identity)),
            "path" => Some(Policy::ConsistentHash(HashBy::Path)),
            _ => {
                section.problem(source, "hash_by", "must be \"identity\" or \"path\"");
                None
            }
        },
        "sticky" => {
            let default = || format!("gateway-{}", name.unwrap_or_default());
            let cookie = section.text(source, "cookie").unwrap_or_else(default);
            let has_prefix =
                |prefix: &str| cookie.get(..prefix.len()).is_some_and(|own| own.eq_ignore_ascii_case(prefix));
            if cookie.is_empty() || cookie.len() > MAX_COOKIE_NAME || !cookie.bytes().all(is_tchar) {
                section.problem(
                    source,
                    "cookie",
                    format!("{} must be a token of at most 72 characters (RFC 9110, section 5.6.2)", shown(&cookie)),
                );
            } else if has_prefix("__Host-") || has_prefix("__Http-") || has_prefix("__Host-Http-") {
                let reason = "must not begin with __Host- or __Http-, since its Path is that of the route";
                section.problem(source, "cookie", reason);
            }
            Some(Policy::Sticky(cookie))
        }
        other => {
            let reason = "must be round_robin, least_connections, consistent_hash or sticky";
            section.problem(source, "policy", format!("{} {reason}", shown(other)));
            None
        }
    }
}

fn read_ejection(source: &mut Source, section: &mut Section) -> Ejection {
    let default = Ejection::default();
    let after = read_count(source, section, "eject_after", 0..=1000, 5);
    let time = section.seconds(source, "eject_time", 0.01..=3600.0);
    let max_time = section.seconds(source, "eject_max_time", 0.01..=3600.0);
    let time = time.unwrap_or(default.time);
    if max_time.is_some_and(|max_time| max_time < time) {
        section.problem(source, "eject_max_time", "must be at least eject_time");
    }
    Ejection {
        after: u32::try_from(after).unwrap_or(default.after),
        time,
        max_time: max_time.unwrap_or(default.max_time).max(time),
        on_server_error: section.flag(source, "eject_on_5xx"),
    }
}

fn read_count(
    source: &mut Source,
    section: &mut Section,
    field: &str,
    range: std::ops::RangeInclusive<u64>,
    default: usize,
) -> usize {
    section.number(source, field, range).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::service::tests::read;
    use super::*;
    use holodule_settings::Problems;

    fn service(fields: &str) -> Result<Balancing, Vec<String>> {
        read(&format!("[[service]]\nname = 'app'\n{fields}")).map(|(services, _)| services[0].balancing.clone())
    }

    #[test]
    fn every_policy_is_read() {
        let two = "addresses = ['a:1', { address = 'b:1', weight = 3 }]\n";
        for (fields, policy) in [
            ("", Policy::RoundRobin),
            ("policy = 'round_robin'", Policy::RoundRobin),
            ("policy = 'least_connections'", Policy::LeastConnections),
            ("policy = 'consistent_hash'\nhash_by = 'identity'", Policy::ConsistentHash(HashBy::Identity)),
            ("policy = 'consistent_hash'\nhash_by = 'path'", Policy::ConsistentHash(HashBy::Path)),
            ("policy = 'sticky'", Policy::Sticky("gateway-app".to_owned())),
            ("policy = 'sticky'\ncookie = '__Secure-at'", Policy::Sticky("__Secure-at".to_owned())),
        ] {
            let balancing = service(&format!("{two}{fields}")).unwrap();
            assert_eq!((balancing.policy, balancing.weights), (policy, vec![1, 3]), "{fields}");
        }
        let drained = service("addresses = [{ address = 'a:1', weight = 0 }, { address = 'unix:/b' }]").unwrap();
        assert_eq!(drained.weights, [0, 1]);
        let all = "max_queue = 0\neject_after = 3\neject_time = 0.5\neject_max_time = 8\neject_on_5xx = true";
        let Balancing { ejection, max_queue, .. } = service(&format!("{two}{all}")).unwrap();
        let (time, max_time) = (Duration::from_millis(500), Duration::from_secs(8));
        assert_eq!((ejection, max_queue), (Ejection { after: 3, time, max_time, on_server_error: true }, Some(0)));
        let long = service(&format!("{two}eject_time = 100")).unwrap().ejection;
        assert_eq!((long.after, long.max_time), (5, Duration::from_secs(100)));
    }

    #[test]
    fn the_admin_listener_has_one_address_or_several() {
        let read = |toml: &str, variable: Option<&str>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), toml).unwrap();
            let variables = variable.map(|value| ("UPSTREAM_ADMIN".to_owned(), value.to_owned()));
            let mut source = Source::read(Some(file.path()), variables.into_iter().collect());
            let addresses = read_admin(&mut source);
            let texts = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            source.finish_with(|| Some(texts)).map_err(|Problems(problems)| problems[0].reason.clone())
        };
        for (toml, variable, expected) in [
            ("", None, Ok("127.0.0.1:8081")),
            ("upstream.admin = 'a:1'", None, Ok("a:1")),
            ("upstream.admin = ['a:1', 'unix:/b', '[::1]:2']", None, Ok("a:1 unix:/b [::1]:2")),
            ("upstream.admin = 'a:1'", Some("[::1]:2"), Ok("[::1]:2")),
            ("", Some("['a:1', 'b:1']"), Ok("a:1 b:1")),
            ("upstream.admin = []", None, Err("must have 1 to 64 addresses")),
            ("upstream.admin = ['a:1', 'a:1']", None, Err("\"a:1\" appears twice")),
            ("upstream.admin = ['a:1', 'b']", None, Err("\"b\" must be host:port or unix:/path")),
            ("upstream.admin = 'b'", None, Err("must be host:port or unix:/path")),
            ("upstream.admin = 1", None, Err("must be a string or a list of strings, not 1")),
            ("", Some("[]"), Err("must have 1 to 64 addresses")),
        ] {
            assert_eq!(read(toml, variable), expected.map(str::to_owned).map_err(str::to_owned), "{toml} {variable:?}");
        }
    }

    #[test]
    fn every_error_is_reported_with_its_key() {
        let two = "addresses = ['a:1', 'b:1']\n";
        for (fields, expected) in [
            (
                "addresses = ['a:1', 1]",
                "addresses: must be a list of strings, or of { address = \"...\", weight = ... }",
            ),
            (
                "addresses = [{ weight = 1 }]",
                "addresses: must be a list of strings, or of { address = \"...\", weight = ... }",
            ),
            ("addresses = [{ address = 1 }, 'a:1']", "addresses[0].address: must be a string, not 1"),
            (
                "addresses = [{ address = 'a:1', weight = 101 }]",
                "addresses[0].weight: must be a whole number from 0 to 100, not 101",
            ),
            ("addresses = [{ address = 'a:1', size = 1 }]", "addresses[0].size: unknown key"),
            ("addresses = [{ address = 'a' }, 'a:1']", "addresses: \"a\" must be host:port or unix:/path"),
            ("addresses = [{ address = 'a:1' }, 'a:1']", "addresses: \"a:1\" appears twice"),
            (
                "addresses = [{ address = 'a:1', weight = 0 }]",
                "addresses: must have at least one with a weight above 0",
            ),
            (
                "addresses = ['a:1', 'unix:/b']\npolicy = 'consistent_hash'\nhash_by = 'path'",
                "policy: cannot be \"consistent_hash\" with \"unix:/b\": a Unix socket has no place on the ring",
            ),
            (
                &format!("{two}policy = 'random'"),
                "policy: \"random\" must be round_robin, least_connections, consistent_hash or sticky",
            ),
            (&format!("{two}policy = 1"), "policy: must be a string, not 1"),
            (&format!("{two}policy = 'consistent_hash'"), "hash_by: is required: \"identity\" or \"path\""),
            (&format!("{two}policy = 'consistent_hash'\nhash_by = 'ip'"), "hash_by: must be \"identity\" or \"path\""),
            (&format!("{two}hash_by = 'path'"), "hash_by: is only for the policy \"consistent_hash\""),
            (&format!("{two}cookie = 'at'"), "cookie: is only for the policy \"sticky\""),
            (
                &format!("{two}policy = 'sticky'\ncookie = 'a b'"),
                "cookie: \"a b\" must be a token of at most 72 characters (RFC 9110, section 5.6.2)",
            ),
            (
                &format!("{two}policy = 'sticky'\ncookie = '__host-a'"),
                "cookie: must not begin with __Host- or __Http-, since its Path is that of the route",
            ),
            (&format!("{two}eject_after = -1"), "eject_after: must be a whole number from 0 to 1000, not -1"),
            (&format!("{two}eject_time = 0"), "eject_time: must be a number of seconds from 0.01 to 3600, not 0"),
            (&format!("{two}eject_time = 2\neject_max_time = 1"), "eject_max_time: must be at least eject_time"),
            (&format!("{two}eject_on_5xx = 1"), "eject_on_5xx: must be true or false, not 1"),
            (&format!("{two}max_queue = 'none'"), "max_queue: must be a whole number from 0 to 1000000, not a string"),
        ] {
            assert_eq!(service(fields).unwrap_err(), [format!("service[0].{expected}")], "{fields}");
        }
        let many: Vec<_> = (0..=MAX_ADDRESSES).map(|number| format!("'a:{}'", number + 1)).collect();
        let many = format!("addresses = [{}]", many.join(", "));
        assert_eq!(service(&many).unwrap_err(), ["service[0].addresses: must be at most 64"]);
    }
}
