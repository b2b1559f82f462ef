//! The internal service that serves holodules, the schedule of streams.
//!
//! It has no authentication: only the gateway, and administrators on the internal network, connect to it. [`server`]
//! accepts a request, [`route`] checks it and selects its handler, [`handler`] executes it with [`model`], [`store`],
//! [`password`], [`import`] and [`backup`], and [`respond`] builds the response. Concurrent reads of the same day or
//! list are coalesced into one (`coalesce`). [`feed`] watches for changes that revoke tokens, change roles or affect
//! the response for a day, and publishes them to its subscribers. [`record`] has the metrics and logs.
//!
//! The handlers are grouped by route: `handler/holodules` (days, uploads, exports, duplicates), `handler/lists` (lists,
//! streamers, schedules), `handler/live` (event streams, from `live`), `handler/calendar` (calendar feeds, written by
//! [`calendar`]), `handler/page` (the admin page, whose documents `page` renders), `handler/contract` and
//! `handler/document` (the OpenAPI document, which `reference` renders as a page).
//!
//! [`config`] is read at the start, and on `SIGHUP` for the log level. [`upgrade`] passes the sockets and the store to a
//! new process. [`command`] is the command-line client of the admin listener.
//!
//! A module imports only modules on lower floors. From the highest: [`program`]; `command`, `config`, `upgrade`;
//! `server`; `route`; `handler`; `live`; `page`, `reference`, `feed`; `respond`, `record`, `password`, `import`,
//! `backup`, `calendar`, `store`; `model`, `hex`, `clock`, `coalesce`.

pub mod backup;
pub mod calendar;
mod clock;
mod coalesce;
pub mod command;
pub mod config;
pub mod feed;
pub mod handler;
pub mod hex;
pub mod import;
mod live;
pub mod model;
mod page;
pub mod password;
pub mod program;
pub mod record;
mod reference;
pub mod respond;
pub mod route;
pub mod server;
pub mod store;
pub mod upgrade;
