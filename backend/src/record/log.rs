//! The log: JSON lines for machines, readable text on a terminal, written by a
//! thread of its own so that no request waits for whoever reads them.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, filter, layer, reload};

/// Lines that may wait for their reader; more are dropped and counted.
const BUFFERED_LINES: usize = 16_384;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text where standard output is a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

impl FromStr for Format {
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

/// The least severe lines that are written.
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

/// A word that is none of the known ones, which it lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownWord(&'static str);

/// What the log looks like and how much of it there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How lines look.
    pub format: Format,
    /// The least severe lines written.
    pub level: Level,
}

/// Keeps the log's thread alive; dropping it writes what is still buffered.
pub struct LogGuard {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
    filter: reload::Handle<filter::Targets, Registry>,
}

impl LogGuard {
    /// A counter of the lines lost so far, to be read at each scrape.
    pub fn dropped(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines()
    }

    /// Changes the least severe lines that are written.
    pub fn set_level(&self, level: Level) {
        // It fails where the log is gone, which ends with the program.
        let _ = self.filter.reload(targets(level));
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").finish_non_exhaustive()
    }
}

/// Starts the log of the process, to standard output.
///
/// # Errors
/// A log that has been started already.
pub fn start(settings: Settings) -> Result<LogGuard, tracing_subscriber::util::TryInitError> {
    let (writer, worker) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).finish(std::io::stdout());
    let dropped = writer.error_counter();
    let text = match settings.format {
        Format::Text => true,
        Format::Json => false,
        Format::Auto => std::io::stdout().is_terminal(),
    };
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    tracing_subscriber::registry().with(layer(writer, text, filter)).try_init()?;
    Ok(LogGuard { _worker: worker, dropped, filter: handle })
}

/// What is written at a level. Libraries are heard from `warn` on: at finer levels some of them
/// print what they send, and that may hold a password.
fn targets(level: Level) -> filter::Targets {
    filter::Targets::new()
        .with_default(level.0.min(LevelFilter::WARN))
        .with_target("access", level.0)
        .with_target("holodule_backend", level.0)
}

/// The one layer.
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
            tracing::info!(target: "access", status = 200, "told");
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
        assert_eq!("xml".parse::<Format>().unwrap_err().to_string(), "must be one of auto, json, text");
    }
}
