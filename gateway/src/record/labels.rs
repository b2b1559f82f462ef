//! The possible values of metric labels.

/// The fixed sets of label values, as the stages declare them.
#[derive(Default)]
pub struct Labels<'a> {
    /// Cache results.
    pub cache: &'a [&'a str],
    /// The routes with a cache.
    pub cached_routes: Vec<&'a str>,
    /// Sources of cache purges.
    pub cache_purges: &'a [&'a str],
    /// Results of logins.
    pub logins: &'a [&'a str],
    /// Why tokens are refused.
    pub token_refusals: &'a [&'a str],
    /// The routes that require scopes.
    pub restricted_routes: Vec<&'a str>,
    /// The routes whose connections may switch protocols.
    pub upgrade_routes: Vec<&'a str>,
    /// How tunnels end.
    pub tunnel_outcomes: &'a [&'a str],
    /// The limits that refuse requests.
    pub rate_limited: &'a [&'a str],
    /// TLS versions.
    pub handshakes: &'a [&'a str],
    /// Why handshakes fail.
    pub handshake_failures: &'a [&'a str],
    /// Why connections are refused.
    pub connections_refused: &'a [&'a str],
    /// Deadlines at which connections are closed.
    pub connections_reaped: &'a [&'a str],
    /// Results of attempts to obtain a certificate by ACME; empty without ACME.
    pub acme_results: &'a [&'a str],
    /// The routes, including the gateway's own.
    pub routes: Vec<&'a str>,
}
