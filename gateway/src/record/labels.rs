//! The values that the labels of the metrics may have.

/// The fixed sets of label values, as the stages declare them.
#[derive(Default)]
pub struct Labels<'a> {
    /// What the cache does for a request.
    pub cache: &'a [&'a str],
    /// The routes whose answers are kept.
    pub cached_routes: Vec<&'a str>,
    /// Who asks for purges.
    pub cache_purges: &'a [&'a str],
    /// What becomes of logins.
    pub logins: &'a [&'a str],
    /// Why tokens are refused.
    pub token_refusals: &'a [&'a str],
    /// The limits that refuse requests.
    pub rate_limited: &'a [&'a str],
    /// TLS versions.
    pub handshakes: &'a [&'a str],
    /// Why handshakes fail.
    pub handshake_failures: &'a [&'a str],
    /// Why connections are not taken.
    pub connections_refused: &'a [&'a str],
    /// Deadlines at which connections are closed.
    pub connections_reaped: &'a [&'a str],
    /// The routes, those of the gateway itself among them.
    pub routes: Vec<&'a str>,
}
