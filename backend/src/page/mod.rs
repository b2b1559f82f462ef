//! The admin page: documents, scripts and styles for the browsers of administrators.
//!
//! These modules do no I/O: a document depends only on the data that the handler passes. Stored text is escaped by
//! `maud`, and a stored address is a link only if it is `https`. Scripts insert text nodes and documents that the
//! browser has parsed, never markup from strings.

mod assets;
mod calendar;
mod calendars;
mod duplicates;
mod entries;
mod forms;
mod health;
mod language;
mod layout;
mod reasons;
mod record_form;
mod search;
mod texts;
mod transfer;
mod users;
mod view;
mod when;

pub(crate) use assets::find as asset;
pub(crate) use calendar::{Calendar, DayView, calendar};
pub(crate) use calendars::calendars;
pub(crate) use duplicates::duplicates;
pub(crate) use health::{Health, health};
pub(crate) use language::Language;
pub(crate) use layout::failure;
pub(crate) use search::{Found, Search, SearchProblem, search};
pub(crate) use transfer::transfer;
pub(crate) use users::{SHOWN_USERS, users};
pub(crate) use view::View;
pub(crate) use when::Month;
