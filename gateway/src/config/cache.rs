//! `[cache]`.

use crate::cache::Settings;
use holodule_settings::Source;

/// Reads `[cache]`; `None` if the cache is disabled.
pub(super) fn read(source: &mut Source) -> Option<Settings> {
    let max_bytes = source.number("cache.max_bytes", 64 * 1024 * 1024, 0..=1 << 40);
    let max_body_bytes = source.number("cache.max_body_bytes", 1024 * 1024, 1..=1 << 30);
    let wait_timeout = source.seconds("cache.wait_timeout", 2.0, 0.01..=600.0);
    if max_bytes > 0 && max_body_bytes.saturating_mul(MIN_BODIES) > max_bytes {
        let most = max_bytes / MIN_BODIES;
        source.conflict("cache.max_body_bytes", format!("is over {most}, a sixteenth of cache.max_bytes"));
    }
    let max_body_bytes = usize::try_from(max_body_bytes).unwrap_or(usize::MAX);
    (max_bytes > 0).then_some(Settings { max_bytes, max_body_bytes, wait_timeout })
}

/// How many bodies of the maximum size must fit, so that one does not evict all others.
const MIN_BODIES: u64 = 16;
