//! The admin page. Its views are read here and made into documents by [`page`](crate::page); its scripts write through
//! the other handlers of the admin listener.

mod calendar;
mod record;
mod request;
mod search;
mod state;
mod users;

pub(crate) use calendar::calendar;
pub(crate) use record::record;
pub(crate) use request::{asset, unknown};
pub(crate) use search::search;
pub(crate) use state::{duplicates, health, transfer};
pub(crate) use users::{calendars, users};
