//! The internal service that serves holodules, the schedule of streams.
//!
//! It has no auth code of its own: it is reached through the gateway, or by admins on
//! the internal network. A request comes in at [`server`], [`route`] finds its
//! handler and makes the checks before it, [`handler`] does what was asked with
//! [`model`], [`store`], [`password`] and [`import`], and [`respond`] shapes the
//! answer. Those who read the same day at the same time share one read (`sharing`). [`feed`] follows what ends tokens before their time and what changes a day's
//! answer, and tells whoever subscribes. [`record`] counts and logs; [`config`] is read once at start; [`command`] is
//! the other side of the admin listener, for people.
//!
//! In floors, each importing only what lies below: [`program`]; `command`, `config`; `server`;
//! `route`; `handler`; `feed`; `respond`, `record`, `password`, `import`, `backup`, `store`; `model`,
//! `hex`, `sharing`.

pub mod backup;
pub mod command;
pub mod config;
pub mod feed;
pub mod handler;
pub mod hex;
pub mod import;
pub mod model;
pub mod password;
pub mod program;
pub mod record;
pub mod respond;
pub mod route;
pub mod server;
mod sharing;
pub mod store;
