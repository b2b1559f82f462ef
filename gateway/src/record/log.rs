//! Where log lines go: standard output, as JSON, or as text where a person is looking.
//!
//! Lines leave by a thread of their own through a bounded queue; a reader that stalls costs
//! lines, which are counted, and never a worker.

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 16_384;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("must be auto, json or text"),
        }
    }
}

/// What is written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How a line looks.
    pub format: Format,
    /// The least important line of ours that is written. Libraries are heard from `warn` up
    /// only, since at finer levels they print requests with their headers.
    pub level: LevelFilter,
}

/// Keeps the writer; dropping it writes what still waits.
pub struct Writer {
    _guard: WorkerGuard,
    lost: ErrorCounter,
}

impl Writer {
    /// Lines that were lost because the queue was full.
    pub fn lost(&self) -> ErrorCounter {
        self.lost.clone()
    }
}

/// Starts the log of this process.
///
/// # Errors
/// There is one already.
pub fn start(settings: Settings) -> Result<Writer, tracing_subscriber::util::TryInitError> {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE_LINES).finish(std::io::stdout());
    let lost = writer.error_counter();
    let targets = Targets::new()
        .with_default(settings.level.min(LevelFilter::WARN))
        .with_target("holodule_gateway", settings.level)
        .with_target("access", settings.level);
    let terminal = std::io::stdout().is_terminal();
    let json = match settings.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !terminal,
    };
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    if json {
        registry.with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()?;
    } else {
        registry.with(layer.with_ansi(terminal).with_target(false).compact()).try_init()?;
    }
    Ok(Writer { _guard: guard, lost })
}
