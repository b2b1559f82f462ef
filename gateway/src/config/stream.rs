//! `[stream]`.

use std::time::Duration;

use holodule_settings::Source;

use crate::fan_out;

/// Settings of responses and connections that may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long one continues after its token has expired. 60 s by default.
    pub grace: Duration,
    /// How long the service may send nothing, unless the route has `timeout.idle`. 60 s by default.
    pub idle_timeout: Duration,
    /// The bounds of shared event streams.
    pub fan_out: fan_out::Settings,
}

pub(super) fn read(source: &mut Source) -> StreamSettings {
    let fan_out = fan_out::Settings::default();
    StreamSettings {
        grace: source.seconds("stream.grace", 60.0, 0.0..=86_400.0),
        idle_timeout: source.seconds("stream.idle_timeout", 60.0, 0.01..=86_400.0),
        fan_out: fan_out::Settings {
            max_streams: count(source, "stream.max_shared", fan_out.max_streams, 10_000),
            max_bytes: source.number("stream.max_shared_bytes", fan_out.max_bytes, 1 << 20..=1 << 40),
            max_listeners: count(source, "stream.max_shared_listeners", fan_out.max_listeners, 10_000_000),
            reconnect_timeout: source.seconds("stream.shared_reconnect_timeout", 30.0, 0.0..=86_400.0),
        },
    }
}

/// The number `key`, from 1 to `max`.
fn count(source: &mut Source, key: &str, default: usize, max: u64) -> usize {
    usize::try_from(source.number(key, default as u64, 1..=max)).unwrap_or(default)
}
