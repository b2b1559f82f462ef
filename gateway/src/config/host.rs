//! Host names and IP addresses in the configuration.

use std::net::{IpAddr, Ipv6Addr};

use crate::framing;
use holodule_settings::{Source, shown};

/// Reads a list of host names or IP addresses, in lower case.
pub(super) fn read_host_names(source: &mut Source, key: &str) -> Vec<String> {
    let hosts: Vec<String> = source.get_or(key, Vec::new());
    for host in hosts.iter().filter(|host| !is_host_name(host)) {
        source.problem(key, format!("{} {NOT_A_HOST}", shown(host)));
    }
    hosts.iter().map(|host| host.to_ascii_lowercase()).collect()
}

/// The error for a text that is not a host name or an IP address.
pub(super) const NOT_A_HOST: &str = "is not a host name: no scheme, port or wildcard";

pub(super) fn is_host_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_name || bare.parse::<IpAddr>().is_ok()
}

/// The form of `host` in which the hosts of requests are compared.
pub(super) fn normal(host: &str) -> String {
    let bracketed = host.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"));
    bracketed.unwrap_or_else(|| framing::normal_host(host).map_or_else(|| host.to_owned(), Into::into))
}
