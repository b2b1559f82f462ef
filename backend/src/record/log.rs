//! The log: JSON lines, or text on a terminal. A separate thread writes it, so that no request waits for a slow reader
//! of the log.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, filter, layer, reload};

/// The maximum number of buffered lines; more are dropped and counted.
const BUFFERED_LINES: usize = 16_384;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text if standard output is a terminal, otherwise JSON.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

impl FromStr for LogFormat {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnknownWord("auto, json, text")),
        }
    }
}

/// The minimum severity of written lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(LevelFilter);

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for Level {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self(LevelFilter::ERROR)),
            "warn" => Ok(Self(LevelFilter::WARN)),
            "info" => Ok(Self(LevelFilter::INFO)),
            "debug" => Ok(Self(LevelFilter::DEBUG)),
            _ => Err(UnknownWord("error, warn, info, debug")),
        }
    }
}

/// The text is not one of the allowed words, which the message lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownWord(&'static str);

/// The settings of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The format of lines.
    pub format: LogFormat,
    /// The minimum severity of written lines.
    pub level: Level,
}

/// Owns the log's thread; dropping it writes the buffered lines.
pub struct LogGuard {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
    filter: reload::Handle<filter::Targets, Registry>,
}

impl LogGuard {
    /// Returns a counter of lines lost so far, to be read at each scrape.
    pub fn dropped(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines()
    }

    /// Changes the minimum severity of written lines.
    pub fn set_level(&self, level: Level) {
        // Fails only when the log has ended, with the program.
        let _ = self.filter.reload(targets(level));
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").finish_non_exhaustive()
    }
}

/// Starts logging to standard output.
///
/// # Errors
/// If logging was started before.
pub fn start(settings: Settings) -> Result<LogGuard, tracing_subscriber::util::TryInitError> {
    let (writer, worker) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).finish(std::io::stdout());
    let dropped = writer.error_counter();
    let text = match settings.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stdout().is_terminal(),
    };
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    tracing_subscriber::registry().with(layer(writer, text, filter)).try_init()?;
    Ok(LogGuard { _worker: worker, dropped, filter: handle })
}

/// The filter for a level. Libraries log from `warn` on: at finer levels some of them log what they send, which may
/// include a password.
fn targets(level: Level) -> filter::Targets {
    filter::Targets::new()
        .with_default(level.0.min(LevelFilter::WARN))
        .with_target("access", level.0)
        .with_target("holodule_backend", level.0)
}

/// The layer that writes lines.
fn layer<S, W, F>(writer: W, text: bool, filter: F) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    F: layer::Filter<S> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt::layer().with_writer(writer);
    if text {
        let colours = std::io::stdout().is_terminal();
        base.with_ansi(colours).with_filter(filter).boxed()
    } else {
        base.json().flatten_event(true).with_current_span(false).with_span_list(false).with_filter(filter).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_json_objects_and_libraries_stay_quiet() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::registry().with(layer(
            move || writer.clone(),
            false,
            targets("debug".parse().unwrap()),
        ));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "access", status = 200, "logged");
            tracing::debug!(target: "mongodb::command", "password=hush");
            tracing::warn!(target: "mongodb", "a library's warning");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["status"], 200);
        assert!(!text.contains("hush"));
    }

    #[test]
    fn the_error_for_an_unknown_word_lists_the_known_ones() {
        assert_eq!("loud".parse::<Level>().unwrap_err().to_string(), "must be one of error, warn, info, debug");
        assert_eq!("xml".parse::<LogFormat>().unwrap_err().to_string(), "must be one of auto, json, text");
    }
}
