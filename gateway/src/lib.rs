//! A TLS edge that issues and checks JSON Web Tokens, in front of services that check nothing.
//!
//! A request walks a straight corridor, and the modules stand in its order:
//!
//! | module | what happens there |
//! |---|---|
//! | [`listener`] | accept, PROXY protocol, TLS, deadlines, caps; HTTP/2, and HTTP/1.1 without a body |
//! | [`flow`] | the corridor: its two doors (the listener's, and pingora's hooks for the rest of HTTP/1), the order of the stages, nothing else |
//! | [`client`] | who is calling |
//! | [`framing`] | what is refused before anything else is looked at; a head as a request |
//! | [`limit`] | how much one client may ask for, and how many of its logins may fail |
//! | [`cors`] | which pages of other origins may use us from a browser |
//! | [`login`] | `POST /auth`: the backend checks the credentials |
//! | [`authenticate`] | the `Authorization` header, and the principal behind it |
//! | [`token`] | JSON Web Tokens and static tokens: made and checked |
//! | [`revocation`] | whether the user behind a good token is still one; `POST /auth/logout` |
//! | [`route`] | what is forwarded, and as what |
//! | [`cache`] | answers that may be given again, without asking the backend |
//! | [`upstream`] | the one way to the backend, and the connections to it |
//! | [`respond`] | the only place where answers of our own are made |
//! | [`record`] | metrics and the access log |
//!
//! [`config`] turns what an operator wrote into the settings that the stages declare, and
//! [`server`] composes them. In floors, each importing only what lies below: `server`; `flow`;
//! `respond`; `authenticate`, `config`; `login`, `revocation`, `cache`; and the rest.

pub mod authenticate;
pub mod cache;
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
