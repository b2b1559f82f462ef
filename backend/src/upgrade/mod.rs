//! Upgrades in place: this process takes over the sockets of its predecessor, and leaves its own to a successor.
//!
//! Both use a MongoDB at the same time. An embedded store is open in one process, so the predecessor pauses: requests
//! wait in the sockets until the successor has opened the file, or until the predecessor has opened it again. Open
//! connections move to the successor between two requests, so that clients notice nothing.

mod connections;
mod host;
mod successor;

pub use connections::{Receiver, Sender, pair};
pub use host::{Outcome, Upgrades};
pub use successor::{NotSucceeded, Succession, listeners, open_store};
