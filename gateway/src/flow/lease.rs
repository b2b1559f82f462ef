//! How long a principal may use a response or a connection that may never end.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use tokio::sync::watch;
use tokio::time::sleep;

use super::authorised::Authorised;
use super::reason::Reason;
use super::{Admitted, Flow, Live};
use crate::authenticate::{Credential, Principal};
use crate::revocation::{AccountWatch, Revocation, RevocationError};
use crate::route::Route;

/// The longest sleep until an expiry, after which the wall clock is read again: it may have been set.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// The authority of a principal over one response or connection. It ends when a request with the same token would be
/// refused, and for an expired token `stream.grace` later.
///
/// Nothing is polled while the revocation feed works: each change of an account wakes the leases of about one
/// identity in 256, and each of these looks up the status of its own.
pub(super) struct Lease {
    principal: Principal,
    /// When its request began, also in seconds since 1970.
    since: (Instant, i64),
    live: Arc<Live>,
    key_removed: watch::Receiver<Option<Instant>>,
    /// `None` without revocation, and for static tokens.
    account: Option<AccountWatch>,
    route: Arc<Route>,
    method: Method,
    /// When the token has expired and the grace has passed; `None` if it does not expire.
    ends_at: Option<SystemTime>,
}

impl Flow {
    /// Waits until the gateway has to end an endless response or connection, and returns why: the authority of the
    /// principal of `admitted` over it has ended, or its route, or there is a drain. A public route has no principal.
    /// The lease begins now, and not when this is first polled.
    pub(super) fn over(&self, admitted: &Admitted, method: &Method) -> impl Future<Output = Reason> + Send + use<> {
        let new = |principal| Lease::new(self, principal, &admitted.matched.route, method);
        let mut lease = admitted.principal.as_ref().map(new);
        let (live, mut reloads) = (Arc::clone(&self.live), self.live.key_removed());
        let route = Arc::clone(&admitted.matched.route);
        let mut draining = self.draining.clone();
        // A block that borrows what it captures: the memory of what an async function receives is reserved twice.
        async move {
            let authority = async {
                match &mut lease {
                    Some(lease) => lease.ended().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                reason = authority => reason,
                () = route_ended(&route, &live, &mut reloads) => Reason::RouteChanged,
                () = draining.turn() => Reason::Drain,
            }
        }
    }

    /// How long a service may send nothing in a response or connection that may never end.
    pub(super) fn stream_idle(&self, route: &Route) -> Duration {
        route.bounds.timeouts.idle.unwrap_or(self.settings.stream.idle_timeout)
    }
}

impl Lease {
    /// The lease of a request to `route` that passed every stage as `authorised`, from now on.
    pub(super) fn new(flow: &Flow, authorised: &Authorised, route: &Arc<Route>, method: &Method) -> Self {
        let principal = authorised.principal.clone();
        let (account, expires_at) = match &principal.credential {
            Credential::Token(token) => {
                let watch = |revocation: &Revocation| revocation.watch(Arc::clone(token));
                (flow.revocation.as_ref().map(watch), Some(token.expires_at))
            }
            Credential::Static(token) => (None, token.expires_at()),
        };
        let grace = flow.settings.stream.grace;
        let ends_at = expires_at.map(|second| moment(second) + grace);
        Self {
            principal,
            since: (authorised.since, unix_second(authorised.since)),
            live: Arc::clone(&flow.live),
            key_removed: flow.live.key_removed(),
            account,
            route: Arc::clone(route),
            method: method.clone(),
            ends_at,
        }
    }

    /// Waits until the lease has ended, and returns why.
    ///
    /// Within 1 s of a change that the revocation feed reports: the user was deleted or disabled, has a new password,
    /// has logged out, or lost a role that the route requires. Also when the feed has been disconnected for
    /// `revocation.max_age`, and at once when a key retires or a reload removes one, or removes or changes the static
    /// token: which key verified a token is not known, so that every token counts. An end is final. Cancel-safe: the
    /// next call continues.
    pub(super) async fn ended(&mut self) -> Reason {
        let Self { principal, since, live, key_removed, account, route, method, ends_at } = self;
        tokio::select! {
            biased;
            end = refused(account.as_mut(), principal, route, method) => end,
            () = withdrawn(principal, *since, live, key_removed) => Reason::Withdrawn,
            () = passed(*ends_at) => Reason::Expired,
        }
    }
}

/// Waits until the account of `principal` may not continue.
async fn refused(account: Option<&mut AccountWatch>, principal: &Principal, route: &Route, method: &Method) -> Reason {
    let Some(account) = account else { return pending().await };
    loop {
        match account.checked().await {
            Ok(roles) => {
                let scopes = roles.scopes().unwrap_or_else(|| principal.scopes());
                if route.requirement(method).is_some_and(|required| !required.is_met_by(scopes)) {
                    return Reason::Scope;
                }
            }
            Err(RevocationError::Revoked(reason)) => return Reason::Revoked(reason),
            Err(RevocationError::Unavailable(_)) => return Reason::RevocationUnknown,
        }
    }
}

/// Waits until the credential of `principal`, whose request began at `since`, is withdrawn by a reload or with the
/// retirement of a key.
async fn withdrawn(
    principal: &Principal,
    (since, second): (Instant, i64),
    live: &Live,
    key_removed: &mut watch::Receiver<Option<Instant>>,
) {
    loop {
        let removed_at = *key_removed.borrow_and_update();
        let (is_withdrawn, retirement) = match &principal.credential {
            Credential::Token(_) => {
                let is_removed = removed_at.is_some_and(|removed_at| removed_at >= since);
                (is_removed, live.accepted().keys.retirement_after(second))
            }
            Credential::Static(token) => {
                (!live.accepted().static_tokens.iter().any(|current| *current == **token), None)
            }
        };
        if is_withdrawn {
            return;
        }
        tokio::select! {
            changed = key_removed.changed() => {
                if changed.is_err() {
                    // The gateway reloads nothing while it ends.
                    return pending().await;
                }
            }
            () = passed(retirement.map(moment)) => return,
        }
    }
}

/// Waits until a reload has removed `route`, or has changed what a request must be to be admitted to it.
async fn route_ended(route: &Route, live: &Live, reloads: &mut watch::Receiver<Option<Instant>>) {
    while live.still_has(route) {
        if reloads.changed().await.is_err() {
            // The gateway reloads nothing while it ends.
            return pending().await;
        }
    }
}

/// A second since 1970.
fn moment(second: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap_or_default())
}

/// The second since 1970 of a moment in the past.
fn unix_second(past: Instant) -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.saturating_sub(past.elapsed()).as_secs()).unwrap_or(i64::MAX)
}

/// Waits until the wall clock shows `moment`.
async fn passed(moment: Option<SystemTime>) {
    let Some(moment) = moment else { return pending().await };
    while let Ok(left) = moment.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        sleep(left.min(CLOCK_INTERVAL)).await;
    }
}
