//! The gateway as its clients see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]
#![allow(unreachable_pub, reason = "a test program exports nothing; pub marks what other modules use")]

mod acme;
mod auth;
mod authority;
mod authorization;
mod body;
mod cache;
mod check;
mod client_address;
mod compress;
mod connection_limit;
mod cors;
mod cve;
mod dependencies;
mod diff;
mod direction;
mod drain;
mod early_response;
mod empty_body;
mod exchange;
mod fan_out;
mod forged_token;
mod forward;
mod framing;
mod fuzz;
mod handover;
mod health;
mod http1;
mod http2;
mod http2_abuse;
mod interim;
mod limit;
mod login_throttle;
mod login_upstream;
mod ops;
mod panic;
mod program;
mod property;
mod proxy_protocol;
mod range;
mod redirect;
mod refusal_order;
mod reload;
mod response_headers;
mod resumption;
mod revocation;
mod role;
mod route;
mod secrets;
mod service;
mod signals;
mod signing_key;
mod size_limit;
mod sni;
mod stack;
mod static_token;
mod stream;
mod support;
mod ticket;
mod tls;
mod token;
mod trace;
mod trailers;
mod upload;
mod upload_window;
mod upstream_failure;
mod watch;
mod websocket;
