//! Holodules: read by day through the api listener, and managed through the admin listener.

pub(super) mod day;
mod duplicates;
mod edit;
mod export;
mod upload;

pub(crate) use day::{Read, day};
pub(super) use duplicates::Duplicates;
pub(crate) use duplicates::{delete as delete_duplicate, list as list_duplicates};
pub(crate) use edit::{delete, put};
pub(crate) use export::export;
pub(crate) use upload::upload;
