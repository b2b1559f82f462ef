//! The internal service that serves holodules, the schedule of streams.
//!
//! It has no authentication: it is reached through the gateway, or by administrators on the internal network.
//! [`server`] accepts a request, [`route`] selects its handler and applies the checks before it, [`handler`] executes
//! it with [`model`], [`store`], [`password`] and [`import`], and [`respond`] builds the response. Concurrent reads of
//! the same day are coalesced into one (`coalesce`). [`feed`] watches for changes that revoke tokens, change roles or
//! affect the response for a day, and publishes them to its subscribers. [`record`] has the metrics and logs,
//! [`config`] is read once at start, and [`command`] is the command-line client of the admin listener.
//!
//! Layers, each importing only those below: [`program`]; `command`, `config`; `server`; `route`; `handler`; `feed`;
//! `respond`, `record`, `password`, `import`, `backup`, `store`; `model`, `hex`, `clock`, `coalesce`.

pub mod backup;
mod clock;
mod coalesce;
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
pub mod store;
