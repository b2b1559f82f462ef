//! A TLS gateway that issues and verifies JSON Web Tokens, in front of an HTTP service that verifies none.
//!
//! The modules in the order of the request path:
//!
//! | module | purpose |
//! |---|---|
//! | [`server`] | the composition root: builds everything below and runs it |
//! | [`config`] | parses the configuration into the settings that the stages declare |
//! | [`listener`] | accepts connections: limits, PROXY protocol, TLS handshake, deadlines |
//! | [`acme`] | obtains and renews certificates by ACME |
//! | [`tls`] | certificates, their selection by name, TLS versions, session tickets |
//! | [`downstream`] | the client's side of a request behind one trait: HTTP/1.1, HTTP/2, pingora's session |
//! | [`flow`] | the stages in their order; every request enters [`Flow::serve`](flow::Flow::serve) |
//! | [`client`] | the client's address, behind trusted proxies |
//! | [`framing`] | parses request heads, and refuses invalid ones before any other stage |
//! | [`limit`] | rate limits by address and identity, and of failed logins |
//! | [`cors`] | which pages of other origins may use the gateway from a browser |
//! | [`login`] | `POST /auth`: the backend checks the credentials |
//! | [`authenticate`] | determines the principal from the `Authorization` header |
//! | [`token`] | issues and verifies JSON Web Tokens; verifies static tokens |
//! | [`revocation`] | whether a token was revoked; `POST /auth/logout` |
//! | [`ticket`] | tickets in the query of a request, each accepted once |
//! | [`route`] | which requests are forwarded, and with which target |
//! | [`scope`] | roles and other scopes: sets of them, and what a route requires |
//! | [`compress`] | which responses are compressed, by which coding, with which entity tag |
//! | [`cache`] | stores responses of the backend, and serves them without a request to it |
//! | [`fan_out`] | event streams of the service, each shared by many listeners |
//! | `single_flight` | coalesces concurrent requests for one key; used by `revocation` and `cache` |
//! | [`upstream`] | connections to the backend, header rules, deadlines |
//! | [`upgrade`] | WebSocket connections: the handshake and the tunnel |
//! | [`respond`] | responses that the gateway generates itself |
//! | [`record`] | metrics and the access log |
//! | [`syntax`] | lists, tokens and addresses in HTTP field values |
//! | [`drain`] | when a shutdown began, and when it ends what has no end of its own |
//! | [`clock`] | the current time since 1970 |
//! | [`health`] | the probe of the command `health` |
//!
//! A module imports only modules on lower floors. From the highest: `server`; `flow`; `respond`; `authenticate`,
//! `config`; `login`, `revocation`, `cache`, `fan_out`, `ticket`, `upgrade`; `listener`; `acme` and the rest; `client`, `compress`,
//! `cors`, `framing`, `limit`, `tls`; `clock`, `drain`, `health`, `scope`, `single_flight`, `syntax`.
//! `tests/it/direction.rs` lists the allowed imports.

pub mod acme;
pub mod authenticate;
pub mod cache;
pub mod client;
pub mod clock;
pub mod compress;
pub mod config;
pub mod cors;
pub mod downstream;
pub mod drain;
pub mod fan_out;
pub mod flow;
pub mod framing;
pub mod health;
pub mod limit;
pub mod listener;
pub mod login;
pub mod record;
pub mod respond;
pub mod revocation;
pub mod route;
pub mod scope;
pub mod server;
mod single_flight;
pub mod syntax;
pub mod ticket;
pub mod tls;
pub mod token;
pub mod upgrade;
pub mod upstream;
