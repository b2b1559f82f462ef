//! The gateway as its clients see it. Each test names the row of the wire contract it shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]
#![allow(unreachable_pub, reason = "a test program exports nothing; pub says what the modules share")]

mod abuse;
mod answer;
mod auth;
mod authority;
mod authorization;
mod body;
mod cache;
mod caps;
mod check;
mod client;
mod cors;
mod cve;
mod direction;
mod drain;
mod early;
mod empty;
mod exchange;
mod failure;
mod forged;
mod forward;
mod framing;
mod fuzz;
mod http1;
mod http2;
mod internals;
mod key;
mod limit;
mod ops;
mod order;
mod panic;
mod program;
mod property;
mod proxy;
mod redirect;
mod reload;
mod resumption;
mod revocation;
mod secrets;
mod signals;
mod sizes;
mod sni;
mod stack;
mod static_token;
mod support;
mod throttle;
mod tls;
mod token;
mod upload;
mod verdict;
mod window;
