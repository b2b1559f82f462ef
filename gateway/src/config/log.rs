//! `[log]`.

use holodule_settings::Source;
use tracing::level_filters::LevelFilter;

use crate::record::log;

pub(super) fn read(source: &mut Source) -> log::Settings {
    log::Settings {
        format: source.parse("log.format", str::parse::<log::Format>).unwrap_or(log::Format::Auto),
        level: source
            .parse("log.level", |text| {
                text.parse::<LevelFilter>().map_err(|_| "must be off, error, warn, info, debug or trace")
            })
            .unwrap_or(LevelFilter::INFO),
    }
}
