//! Answers that may be given again, without asking the backend.

pub mod policy;
