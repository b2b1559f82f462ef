//! The fields of `[[route]]` that bound requests.

use super::section::Section;
use crate::route::{Bounds, Timeouts};
use holodule_settings::Source;

/// One tebibyte.
const MAX_BODY_BYTES: u64 = 1 << 40;

/// Reads the bounds of a route.
pub(super) fn read(source: &mut Source, section: &mut Section) -> Bounds {
    let max_body_bytes = section.number(source, "max_body_bytes", 0..=MAX_BODY_BYTES);
    let timeouts = read_timeouts(source, section);
    Bounds { max_body_bytes: max_body_bytes.filter(|&limit| limit > 0), timeouts }
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
