//! `[limit]`: rate limits.

use crate::limit::{self, Backoff, LoginSettings, Quota, Window};
use holodule_settings::Source;

/// Reads `[limit]`.
pub(super) fn read(source: &mut Source) -> limit::Settings {
    let number = |source: &mut Source, key: &str, default, range| {
        u32::try_from(source.number(key, default, range)).unwrap_or(u32::MAX)
    };
    let quota = |source: &mut Source, key: &str| {
        let rate = number(source, &format!("limit.{key}.rate"), 500, 0..=1_000_000);
        let burst = number(source, &format!("limit.{key}.burst"), 2000, 1..=1_000_000);
        (rate > 0).then_some(Quota { rate, burst })
    };
    let failures = number(source, "limit.login.address_failures", 20, 0..=100);
    let length = source.seconds("limit.login.address_window", 60.0, 0.01..=3600.0);
    let address = (failures > 0).then_some(Window { failures, length });
    let failures = number(source, "limit.login.name_failures", 10, 0..=100);
    let delay = source.seconds("limit.login.name_delay", 1.0, 0.01..=3600.0);
    let max_delay = source.seconds("limit.login.name_max_delay", 60.0, 0.01..=3600.0);
    if max_delay < delay {
        source.conflict("limit.login.name_max_delay", "is below limit.login.name_delay");
    }
    let name = (failures > 0).then_some(Backoff { failures, delay, max_delay });
    limit::Settings {
        address: quota(source, "address"),
        identity: quota(source, "identity"),
        login: LoginSettings { address, name },
    }
}

/// Notes about limits that are disabled.
pub(super) fn notes(limit: &limit::Settings, has_login: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for (key, quota) in [("address", limit.address), ("identity", limit.identity)] {
        if quota.is_none() {
            notes.push(format!("limit.{key}.rate is 0: the requests of one {key} are not limited"));
        }
    }
    let LoginSettings { address, name } = &limit.login;
    for (key, is_off) in [("address", address.is_none()), ("name", name.is_none())] {
        if is_off && has_login {
            notes.push(format!("limit.login.{key}_failures is 0: failed logins of one {key} are not limited"));
        }
    }
    notes
}
