//! Calendar feeds as iCalendar objects (RFC 5545, with the properties of RFC 7986).
//!
//! [`Event`] is a holodule as an event. [`Revisions`] compares the events of a feed with those it has delivered, and
//! determines their revisions. [`render()`] writes the object. Nothing here reads the clock or the store.
//!
//! This module writes the object itself. The crate `icalendar` 0.17 writes a `DTSTAMP` into every component, also into
//! `VTIMEZONE`, which RFC 5545 does not allow, has no type for `VTIMEZONE`, does not handle carriage returns in texts,
//! and depends on chrono's clock and time zones. Without these parts, code that uses the crate would be longer than
//! this.

mod event;
mod render;
mod revisions;
mod text;

pub use event::Event;
pub use render::{REFRESH_MINUTES, render};
pub use revisions::{CANCELLED_FOR, Coverage, DELIVERED_LIMIT, Revised, Revisions, Status};
