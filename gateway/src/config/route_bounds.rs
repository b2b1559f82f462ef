//! The fields of `[[route]]` that bound requests.

use ipnet::IpNet;

use super::section::Section;
use crate::client::{Networks, parse_client_network};
use crate::route::{Bounds, Timeouts};
use holodule_settings::{Source, shown};

/// One tebibyte.
const MAX_BODY_BYTES: u64 = 1 << 40;

/// Reads the bounds of a route.
pub(super) fn read(source: &mut Source, section: &mut Section) -> Bounds {
    let max_body_bytes = section.number(source, "max_body_bytes", 0..=MAX_BODY_BYTES);
    let timeouts = read_timeouts(source, section);
    let networks =
        Networks { allow: read_networks(source, section, "allow"), deny: read_networks(source, section, "deny") };
    Bounds { max_body_bytes: max_body_bytes.filter(|&limit| limit > 0), timeouts, networks }
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
