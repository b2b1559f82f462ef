//! Integration tests of the backend, in one program, against real files, sockets and servers. Each cleans up after
//! itself.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod backup;
mod calendars;
mod closed;
mod coalescing;
mod connect;
mod contract;
mod credentials;
mod csrf;
mod days;
mod direction;
mod export;
mod feed;
mod fuzz;
mod health;
mod http;
mod import;
mod limits;
mod lists;
mod live;
mod mongod;
mod mongodb;
mod openapi;
mod page;
mod pausing;
mod program;
mod reload;
mod roles;
mod secrets;
mod service;
mod upgrade;
mod uploads;
mod users;
