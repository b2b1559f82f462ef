//! The log on standard output, as JSON or text.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::access::AccessLog;
use super::line::Form;
use super::lines::{self, Guard, Lines};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
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

/// The settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The format of lines.
    pub format: Format,
    /// The most verbose level that is logged. Libraries are limited to `warn`, since at more verbose levels
    /// they log requests with their headers.
    pub level: LevelFilter,
}

/// Guard of the writer thread; dropping it writes the remaining lines.
pub struct Writer {
    control: Control,
    level: LevelFilter,
    _guard: Guard,
}

/// The log, whose level can be changed. Clones are the same log.
#[derive(Clone)]
pub struct Control {
    lines: Lines,
    form: Form,
    /// The level of events; `None` without a log of events.
    events: Option<reload::Handle<Targets, Registry>>,
}

impl Control {
    /// The log writer, which counts lost lines.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// The access log at this level; off below `info`.
    pub fn access(&self, level: LevelFilter) -> AccessLog {
        if level >= LevelFilter::INFO { AccessLog::new(self.lines.clone(), self.form) } else { AccessLog::default() }
    }

    /// Changes the level of events.
    pub fn set_level(&self, level: LevelFilter) {
        if let Some(events) = &self.events {
            // Fails only if the log has ended.
            let _ = events.reload(targets(level));
        }
    }
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogNotStarted {
    /// Standard output cannot be used, or the writer thread not started.
    #[error("the log cannot be written: {0}")]
    Io(#[from] io::Error),
    /// A log was already started.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

impl Writer {
    /// Creates an access log that writes to `out`, without a log of events.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn to(out: impl io::Write + Send + 'static, settings: Settings) -> io::Result<Self> {
        Self::new(out, settings, false)
    }

    fn new(out: impl io::Write + Send + 'static, settings: Settings, is_terminal: bool) -> io::Result<Self> {
        let (lines, guard) = lines::start(out)?;
        let control = Control { lines, form: settings.form(is_terminal), events: None };
        Ok(Self { control, level: settings.level, _guard: guard })
    }

    /// The log.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The log writer, which counts lost lines.
    pub fn lines(&self) -> Lines {
        self.control.lines.clone()
    }

    /// The access log; off if the level is below `info`.
    pub fn access(&self) -> AccessLog {
        self.control.access(self.level)
    }
}

impl Settings {
    fn form(self, is_terminal: bool) -> Form {
        match self.format {
            Format::Auto if is_terminal => Form::Text { ansi: true },
            Format::Auto | Format::Json => Form::Json,
            Format::Text => Form::Text { ansi: is_terminal },
        }
    }
}

/// Starts the log of this process on standard output.
///
/// # Errors
/// [`LogNotStarted`].
pub fn start(settings: Settings) -> Result<Writer, LogNotStarted> {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    // Bypasses the standard library's buffer, so that each write is one system call with whole lines.
    let out = File::from(stdout.as_fd().try_clone_to_owned()?);
    let mut writer = Writer::new(out, settings, is_terminal)?;
    let (targets, handle) = reload::Layer::new(targets(settings.level));
    writer.control.events = Some(handle);
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer.control.lines());
    match settings.form(is_terminal) {
        Form::Json => {
            registry
                .with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false))
                .try_init()?;
        }
        Form::Text { ansi } => registry.with(layer.with_ansi(ansi).with_target(false).compact()).try_init()?,
    }
    Ok(writer)
}

/// What is logged at `level`.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("holodule_gateway", level)
}
