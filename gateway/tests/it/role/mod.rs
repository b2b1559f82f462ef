//! Roles and other scopes: from the backend or a token to what a route requires.

mod claim;
