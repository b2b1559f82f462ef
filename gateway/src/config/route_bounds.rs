//! The fields of `[[route]]` that bound requests.

use super::section::Section;
use crate::route::Bounds;
use holodule_settings::Source;

/// One tebibyte.
const MAX_BODY_BYTES: u64 = 1 << 40;

/// Reads the bounds of a route.
pub(super) fn read(source: &mut Source, section: &mut Section) -> Bounds {
    let max_body_bytes = section.number(source, "max_body_bytes", 0..=MAX_BODY_BYTES);
    Bounds { max_body_bytes: max_body_bytes.filter(|&limit| limit > 0) }
}
