//! Holodules: read by day through the api listener, and managed through the admin listener.

pub(super) mod day;
mod edit;
mod export;
mod upload;

pub(crate) use day::{Read, day};
pub(crate) use edit::{delete, put};
pub(crate) use export::export;
pub(crate) use upload::upload;
