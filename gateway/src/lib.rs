//! A TLS edge that issues and checks JSON Web Tokens, in front of services that check nothing.
//!
//! A request walks a straight corridor, and the modules stand in its order:
//!
//! | module | what happens there |
//! |---|---|
//! | [`listener`] | accept, TLS, deadlines, caps |
//! | [`flow`] | the corridor: pingora's hooks, the order of the stages, nothing else |
//! | [`client`] | who is calling |
//! | [`framing`] | what is refused before anything else is looked at |
//! | [`limit`] | how much one client may ask for |
//! | [`cors`] | which pages of other origins may use us from a browser |
//! | [`login`] | `POST /auth`: the backend checks, [`token`] signs |
//! | [`authenticate`] | the `Authorization` header, and the principal behind it |
//! | [`revocation`] | whether the user behind a good token is still one |
//! | [`route`] | what is forwarded, and as what |
//! | [`upstream`] | the one way to the backend |
//! | [`respond`] | the only place where answers of our own are made |
//! | [`record`] | metrics and the access log |
//!
//! [`config`] turns what an operator wrote into the settings that the stages declare, and
//! [`server`] composes them. Each module imports only what lies below it: `server`, `flow`,
//! `respond`, then `authenticate` and `config`, `login`, and the rest.

pub mod authenticate;
pub mod client;
pub mod config;
pub mod cors;
pub mod flow;
pub mod framing;
pub mod limit;
pub mod listener;
pub mod login;
pub mod record;
pub mod respond;
pub mod revocation;
pub mod route;
pub mod server;
pub mod token;
pub mod upstream;
