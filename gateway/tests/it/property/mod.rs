//! Properties that hold for whatever is sent, shown on random cases (support/random.rs).

mod head;
mod login;
mod path;
mod token;
