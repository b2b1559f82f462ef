//! Watches the account of a token while a long response or connection uses it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::changes::Version;
use super::{Revocation, RevocationError, Roles};
use crate::token::Verified;

/// The number of checks at once by watchers, so that they leave connections to logins and requests when all accounts
/// must be queried again.
pub(super) const CHECKS_AT_ONCE: usize = 64;

/// How long the check after a change of the account may take. The feed names a change within 0.5 s.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a check may take if nothing is known to have changed.
const PRECAUTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The delay before a check that failed is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// How often an account is queried whose changes the feed may not report.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Watches the account of one token.
pub struct AccountWatch {
    revocation: Revocation,
    token: Arc<Verified>,
    changes: Option<watch::Receiver<Version>>,
    seen: Version,
    /// The deadline of the next check, once there is a reason for one.
    check_by: Option<Instant>,
    /// Whether the feed reports changes: only of accounts whose status is stored.
    is_reported: bool,
}

impl Revocation {
    /// Watches the account of `token` from now on.
    pub fn watch(&self, token: Arc<Verified>) -> AccountWatch {
        let changes = self.0.changes.subscribe(&token.identity);
        AccountWatch {
            revocation: self.clone(),
            token,
            seen: changes.as_ref().map(|changes| *changes.borrow()).unwrap_or_default(),
            changes,
            // The account may have changed since the request was checked.
            check_by: Some(Instant::now() + PRECAUTION_TIMEOUT),
            is_reported: true,
        }
    }

    /// When the revocation data becomes too old, unless there is another beat; `None` if it may be old.
    fn stale_at(&self) -> Option<Instant> {
        if self.serves_on() {
            return None;
        }
        let age = self.age().unwrap_or(self.0.settings.max_age);
        // The last moment is still in time.
        Some(Instant::now() + self.0.settings.max_age.saturating_sub(age) + Duration::from_millis(1))
    }
}

impl AccountWatch {
    /// Waits for the next reason to check the account, and checks it like [`Revocation::check`]. The first call checks
    /// at once. A check that fails is repeated for a short time.
    ///
    /// Cancel-safe: a check that was not completed is repeated by the next call.
    ///
    /// # Errors
    /// [`RevocationError`]. Also if the feed has been disconnected for [`max_age`](super::Settings::max_age), unless
    /// stale data may be used.
    pub async fn checked(&mut self) -> Result<Roles, RevocationError> {
        let deadline = match self.check_by {
            Some(deadline) => deadline,
            None => self.reason_to_check().await,
        };
        self.check_by = Some(deadline);
        // Boxed, since a check is rare and short.
        let result = Box::pin(self.check(deadline)).await;
        self.check_by = None;
        result
    }

    /// Waits for a reason to check, and returns the deadline of the check.
    async fn reason_to_check(&mut self) -> Instant {
        loop {
            let stale_at = self.revocation.stale_at();
            let poll_at = (!self.is_reported).then(|| Instant::now() + POLL_INTERVAL);
            let next = stale_at.into_iter().chain(poll_at).min();
            tokio::select! {
                biased;
                version = next_version(self.changes.as_mut()) => {
                    let is_reset = version.resets != self.seen.resets;
                    self.seen = version;
                    return Instant::now() + if is_reset { PRECAUTION_TIMEOUT } else { CHECK_TIMEOUT };
                }
                () = until(next) => {
                    let now = Instant::now();
                    if poll_at.is_some_and(|poll_at| poll_at <= now) {
                        return now + PRECAUTION_TIMEOUT;
                    }
                    if !self.revocation.is_fresh() {
                        return now + CHECK_TIMEOUT;
                    }
                }
            }
        }
    }

    async fn check(&mut self, deadline: Instant) -> Result<Roles, RevocationError> {
        let inner = Arc::clone(&self.revocation.0);
        let mut failed = RevocationError::Unavailable("the account could not be checked in time".to_owned());
        loop {
            let checking = async {
                // It is never closed.
                let _permit = inner.watchers.acquire().await;
                self.revocation.check(&self.token).await
            };
            match timeout_at(deadline, checking).await {
                Err(_) => return Err(failed),
                Ok(Err(error @ RevocationError::Unavailable(_))) if self.revocation.is_fresh() => failed = error,
                Ok(result) => {
                    self.is_reported = inner.statuses.is_stored(&self.token.identity);
                    return result;
                }
            }
            sleep_until(deadline.min(Instant::now() + RETRY_DELAY)).await;
        }
    }
}

async fn next_version(changes: Option<&mut watch::Receiver<Version>>) -> Version {
    let Some(changes) = changes else { return std::future::pending().await };
    match changes.changed().await {
        Ok(()) => *changes.borrow_and_update(),
        // Not before the revocation check is gone, which the watcher holds.
        Err(_) => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
