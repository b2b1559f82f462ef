//! Properties that hold for any input, checked with random cases (support/random.rs).

mod cache;
mod client;
mod compress;
mod configuration;
mod encoded;
mod head;
mod login;
mod path;
mod proxy;
mod role;
mod route;
mod token;
