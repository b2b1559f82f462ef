//! Holodules: read by the public a day at a time, and kept by admins.

mod day;
mod edit;
mod export;
mod upload;

pub(crate) use day::{Read, day};
pub(crate) use edit::{delete, put};
pub(crate) use export::export;
pub(crate) use upload::upload;
