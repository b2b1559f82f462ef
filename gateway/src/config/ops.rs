//! The address of the ops listener, which `health` needs without the rest of the configuration.

use std::net::SocketAddr;
use std::path::Path;

use super::SECRET_VARIABLES;
use holodule_settings::{Overlaid, Problems, Source, environment};

/// Reads `ops_addr` from `file`, the `.env` file at `dotenv` and the environment. Other keys are not read, so that
/// their errors do not matter.
///
/// # Errors
/// Every problem of `ops_addr`, of `dotenv` and of the file as a whole.
pub fn ops_address(file: Option<&Path>, dotenv: &Path) -> Result<SocketAddr, Problems> {
    let Overlaid { environment, problems, .. } = environment(dotenv, &SECRET_VARIABLES);
    let mut source = Source::read(file, environment);
    let address = read_address(&mut source);
    let own = source.into_problems();
    Problems::join(problems, if own.is_empty() { Ok(address) } else { Err(Problems(own)) })
}

/// The address, or its default if it is not set or invalid.
pub(super) fn read_address(source: &mut Source) -> SocketAddr {
    let address = source.parse("ops_addr", parse_socket_address);
    address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9180)))
}

/// Parses the address of a listener. Host names are refused, since a name may resolve to several addresses.
pub(super) fn parse_socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "must be an IP address with a port, as in 127.0.0.1:8443 or [::]:443")
}
