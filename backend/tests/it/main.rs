//! Tests of whole parts of the backend, in one program, against real files, sockets and
//! servers. Each leaves nothing behind.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod backup;
mod coalescing;
mod connect;
mod contract;
mod credentials;
mod days;
mod defence;
mod direction;
mod export;
mod feed;
mod fuzz;
mod http;
mod import;
mod limits;
mod mongod;
mod mongodb;
mod program;
mod reload;
mod secrets;
mod service;
mod uploads;
mod users;
