//! `[stream]`.

use std::time::Duration;

use holodule_settings::Source;

/// Settings of responses and connections that may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long one continues after its token has expired. 60 s by default.
    pub grace: Duration,
    /// How long the service may send nothing, unless the route has `timeout.idle`. 60 s by default.
    pub idle_timeout: Duration,
}

pub(super) fn read(source: &mut Source) -> StreamSettings {
    StreamSettings {
        grace: source.seconds("stream.grace", 60.0, 0.0..=86_400.0),
        idle_timeout: source.seconds("stream.idle_timeout", 60.0, 0.01..=86_400.0),
    }
}
