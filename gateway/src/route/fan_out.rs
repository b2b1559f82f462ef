//! The settings that exclude a shared event stream.

use super::errors::Errors;
use super::{LAST_EVENT_ID, Settings};

/// Checks the settings of a route with `fan_out`: all listeners receive the same stream, so that it may depend on the
/// target only.
pub(super) fn check(settings: &Settings, has_get: bool, is_cached: bool, names: &[String], errors: &mut Errors) {
    if !settings.fan_out {
        return;
    }
    let reasons = [
        (!settings.shared, "requires shared, since all users receive the same stream"),
        (!has_get, "can be true only with GET among the methods"),
        (is_cached, "cannot be true on a cached route: remove cache"),
        (settings.upgrade.is_some(), "cannot be true with upgrade"),
        (!settings.vary.is_empty(), "cannot be true with vary: no field of a client's request is forwarded"),
        (!settings.headers_from_claims.is_empty(), "cannot be true with headers_from_claims: no identity is forwarded"),
    ];
    if names.iter().any(|name| name == LAST_EVENT_ID) {
        errors.push(
            "query",
            Some(LAST_EVENT_ID),
            "must not list last_event_id, which the gateway itself uses on a route with fan_out",
        );
    }
    for (_, reason) in reasons.into_iter().filter(|(is_wrong, _)| *is_wrong) {
        errors.push("fan_out", None, reason);
    }
}
