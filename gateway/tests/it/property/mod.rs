//! Properties that hold for whatever is sent, shown on random cases (support/random.rs).

mod cache;
mod client;
mod configuration;
mod head;
mod login;
mod path;
mod proxy;
mod token;
