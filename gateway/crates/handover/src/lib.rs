//! Upgrades a program in place: the running process starts its successor, passes its listening sockets to it, and drains
//! once the successor serves. Both programs use this crate.
//!
//! The two processes share an anonymous socket pair, which is the standard input of the new one. There is no socket in the
//! file system, so no other process can hand over sockets or receive them.
//!
//! ```text
//! running process (Upgrader)                    new process (Takeover)
//!   starts it        ── sockets ─────────────▶    takes those of its configuration, binds the rest
//!   Host::release    ◀─ release ──────────────    only if it needs something that one process alone can have open
//!                    ── released ────────────▶
//!                    ◀─ waiting: reason ──────    any number of times
//!                    ◀─ ready ────────────────    it could accept connections now
//!                    ── go ──────────────────▶
//!                    ◀─ taken ────────────────    and accepts
//!   drains and exits
//! ```
//!
//! Until `go`, every failure leaves the running process as it was: it kills the new one, and reports why. The new process
//! accepts nothing before `go`, and exits if the channel closes before, unless the running process was killed: then it takes
//! over, since no other process has the sockets. A connection that arrives in between waits in the
//! queue of the shared socket and is not lost.
//!
//! The channel stays open until the old process exits. So each process knows which of its predecessors still drain, and
//! passes this on to its successor.

mod channel;
mod draining;
mod history;
mod listening;
mod message;
mod program;
mod request;
mod takeover;
mod upgrader;

pub use draining::{Draining, MAX_DRAINING};
pub use history::{Failure, History, Page};
pub use listening::{Address, Listening};
pub use program::Program;
pub use request::{NotRequested, PAGE, read_page, request_upgrade};
pub use takeover::{NotTaken, Reporter, Takeover};
pub use upgrader::{Cancel, Host, NotUpgraded, Upgrader};
