//! `health`: one request to the admin listener of a running backend.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::CommandError;
use super::client::{Client, Target};
use crate::server::Address;

/// The maximum time for the whole probe. Docker's default timeout is 30 s, Kubernetes' is 1 s.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `/readyz` if `ready`, otherwise `/healthz`, of the listener that is bound to `address`.
///
/// # Errors
/// No response within 5 s, or another status than 200.
pub async fn health(address: Address, ready: bool) -> Result<(), CommandError> {
    let client = Client::new(Target::from(address));
    let path = if ready { "/readyz" } else { "/healthz" };
    let response = client.send(Method::GET, path, "application/json", Bytes::new());
    match tokio::time::timeout(TIMEOUT, response).await {
        Ok(response) => response.map(drop).map_err(|error| format!("{path}: {error}").into()),
        Err(_) => Err(format!("{path}: no response within {} s", TIMEOUT.as_secs()).into()),
    }
}
