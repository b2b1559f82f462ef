//! Certificates by ACME (RFC 8555): obtains them, renews them in time, and shares them with other gateways.
//!
//! [`Acme`] is driven by [`Acme::step`], whose time is an argument; `server` calls it every [`INTERVAL`].

mod account;
mod error;
mod http;
mod order;
pub mod schedule;
mod settings;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use instant_acme::{Account, CertificateIdentifier};
use tokio::time::timeout;

pub use error::AcmeError;
use http::Http;
use order::{Obtained, OrderError, Wanted};
use schedule::{Validity, Window};
pub use settings::{Binding, Challenge, LETS_ENCRYPT, Settings};
pub use storage::Storage;
use storage::{Failures, Lock, Stamp};

use crate::tls::Identity;

/// How often [`Acme::step`] is to be called: a certificate that another gateway obtained is served this much later.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The timeout of an attempt to obtain a certificate.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(180);

/// How long to wait with renewal information that could not be requested, in seconds.
const RENEWAL_INFO_RETRY: i64 = 3600;

/// The certificates that are obtained by ACME.
pub struct Acme {
    settings: Settings,
    storage: Storage,
    http: Http,
    managed: Vec<Managed>,
}

/// One certificate.
struct Managed {
    names: Vec<String>,
    id: String,
    /// The version of the stored certificate that was last read.
    stamp: Option<Stamp>,
    identity: Option<Arc<Identity>>,
    /// Whether the file of `identity` was removed, by which an operator requests a new one.
    is_removed: bool,
    /// A random number of at least 0 and below 1.
    position: f64,
    window: Option<Window>,
    /// When renewal information is requested next.
    next_renewal_info: i64,
    /// When the next attempt is due, if that could not be stored.
    blocked_until: i64,
}

/// What happened to the certificate whose first name is `name`.
#[derive(Debug)]
pub struct Event {
    /// The first name of the certificate.
    pub name: String,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a certificate.
#[derive(Debug)]
pub enum Outcome {
    /// This gateway obtained it, and serves it from now on.
    Obtained,
    /// It was in the storage: another gateway obtained it, or this one before a restart.
    Loaded,
    /// It could not be obtained. The certificate before, if any, is still served.
    Failed {
        /// Why.
        error: AcmeError,
        /// When the next attempt is due, in seconds since 1970.
        retry_at: i64,
    },
    /// What is stored cannot be used. The certificate before, if any, is still served.
    NotLoaded(AcmeError),
}

/// The state of a certificate.
pub struct State<'a> {
    /// Its first name.
    pub name: &'a str,
    /// When it is renewed, in seconds since 1970; `None` without a certificate.
    pub renewal: Option<i64>,
    /// The failures since it was last obtained.
    pub failures: u32,
}

impl Acme {
    /// The certificates of `settings`, without any: the first [`Acme::load`] or [`Acme::step`] reads those that are
    /// stored.
    pub fn new(settings: Settings, storage: Storage) -> Self {
        let managed = settings.certificates.iter().map(|names| Managed {
            names: names.clone(),
            id: storage::id(&settings.directory, names),
            stamp: None,
            identity: None,
            is_removed: false,
            position: random_position(),
            window: None,
            next_renewal_info: 0,
            blocked_until: 0,
        });
        Self { managed: managed.collect(), http: Http::new(Arc::clone(&settings.tls)), settings, storage }
    }

    /// The certificates that there are.
    pub fn identities(&self) -> Vec<Arc<Identity>> {
        self.managed.iter().filter_map(|managed| managed.identity.clone()).collect()
    }

    /// The state of each certificate.
    pub fn states(&self) -> impl Iterator<Item = State<'_>> {
        self.managed.iter().map(|managed| State {
            name: managed.first_name(),
            renewal: managed.identity.as_ref().map(|identity| managed.renewal(identity)),
            failures: self.storage.read_failures(&managed.id).count,
        })
    }

    /// Reads the stored certificates that have changed.
    pub fn load(&mut self) -> Vec<Event> {
        let storage = &self.storage;
        self.managed.iter_mut().filter_map(|managed| managed.load(storage)).collect()
    }

    /// Reads the stored certificates that have changed, and obtains those that are missing or due at `now`, in seconds
    /// since 1970. It may be dropped at any time.
    pub async fn step(&mut self, now: i64) -> Vec<Event> {
        let mut events = self.load();
        for index in 0..self.managed.len() {
            self.update_window(index, now).await;
            events.extend(self.renew(index, now).await);
        }
        events
    }

    /// Requests the renewal information of a certificate if it is due.
    async fn update_window(&mut self, index: usize, now: i64) {
        let Some(managed) = self.managed.get_mut(index) else { return };
        let Some(identity) = managed.identity.as_ref().filter(|_| now >= managed.next_renewal_info) else { return };
        managed.next_renewal_info = now.saturating_add(RENEWAL_INFO_RETRY);
        // Without an account this gateway has obtained nothing yet.
        let Ok(Some(stored)) = self.storage.read_account(&self.settings.directory) else { return };
        let Some(certificate) = identifier(identity) else { return };
        let info = async {
            let account = account::restore(&self.http, stored.credentials).await?;
            account.renewal_info(&certificate).await.map_err(AcmeError::from)
        };
        match info.await {
            Ok((info, requested)) => {
                let window = &info.suggested_window;
                managed.window =
                    Some(Window { start: window.start.unix_timestamp(), end: window.end.unix_timestamp() });
                let interval = schedule::renewal_info_interval(validity(identity), Some(requested));
                managed.next_renewal_info = now.saturating_add(seconds(interval));
            }
            // Many servers have none, and the certificate is renewed in time anyway.
            Err(error) => tracing::debug!(name = managed.first_name(), %error, "no renewal information"),
        }
    }

    /// Obtains a certificate if it is missing or due.
    async fn renew(&mut self, index: usize, now: i64) -> Option<Event> {
        let managed = self.managed.get_mut(index)?;
        let before = self.storage.read_failures(&managed.id);
        let is_waiting = [before.retry_at, managed.blocked_until].iter().any(|time| schedule::is_waiting(*time, now));
        if is_waiting || managed.identity.as_ref().is_some_and(|identity| !managed.is_due(identity, now)) {
            return None;
        }
        let lock = match self.storage.try_lock() {
            Ok(Some(lock)) => lock,
            // Another gateway is ordering.
            Ok(None) => return None,
            Err(error) => return Some(managed.failed(error, (&self.settings, &self.storage, &self.http), before, now)),
        };
        // Another gateway may have obtained or tried it meanwhile.
        if let Some(event) = managed.load(&self.storage) {
            return Some(event);
        }
        if self.storage.read_failures(&managed.id) != before {
            return None;
        }
        if let Err(error) = self.storage.check_space(&lock) {
            return Some(managed.failed(error, (&self.settings, &self.storage, &self.http), before, now));
        }
        let attempt = managed.obtain((&self.settings, &self.storage, &self.http), &lock, before.count, now);
        let result = timeout(ATTEMPT_TIMEOUT, attempt).await.unwrap_or(Err(AcmeError::Timeout));
        let stored = result.and_then(|obtained| {
            self.storage.write_certificate(&managed.id, &obtained.pem, &lock)?;
            Ok(obtained.identity)
        });
        match stored {
            Ok(identity) => {
                managed.stamp = self.storage.stamp(&managed.id);
                managed.serve(identity);
                Some(managed.event(Outcome::Obtained))
            }
            Err(error) => Some(managed.failed(error, (&self.settings, &self.storage, &self.http), before, now)),
        }
    }
}

impl Managed {
    fn first_name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn event(&self, outcome: Outcome) -> Event {
        Event { name: self.first_name().to_owned(), outcome }
    }

    fn renewal(&self, identity: &Identity) -> i64 {
        schedule::renewal(validity(identity), self.window, self.position)
    }

    fn is_due(&self, identity: &Identity, now: i64) -> bool {
        self.is_removed || now >= self.renewal(identity)
    }

    /// Serves `identity` from now on.
    fn serve(&mut self, identity: Identity) {
        self.identity = Some(Arc::new(identity));
        self.is_removed = false;
        self.position = random_position();
        self.window = None;
        self.next_renewal_info = 0;
    }

    /// Reads the stored certificate if it has changed.
    fn load(&mut self, storage: &Storage) -> Option<Event> {
        let stamp = storage.stamp(&self.id);
        if stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        // A certificate that was removed is still served.
        self.is_removed = stamp.is_none();
        stamp?;
        let not_usable = |error| AcmeError::Storage(format!("the certificate {} cannot be used: {error}", self.id));
        let read = storage.read_certificate(&self.id);
        match read.and_then(|pem| Identity::parse(&pem).map_err(not_usable)) {
            Ok(identity) => {
                self.serve(identity);
                Some(self.event(Outcome::Loaded))
            }
            Err(error) => Some(self.event(Outcome::NotLoaded(error))),
        }
    }

    /// Orders the certificate. After `failures` failures, the next challenge is the preferred one.
    async fn obtain(
        &self,
        (settings, storage, http): (&Settings, &Storage, &Http),
        lock: &Lock,
        failures: u32,
        now: i64,
    ) -> Result<Obtained, AcmeError> {
        let wanted = || {
            let mut challenges = settings.challenges.clone();
            let first = usize::try_from(failures).unwrap_or(0).checked_rem(challenges.len()).unwrap_or(0);
            challenges.rotate_left(first);
            // Only a server with renewal information accepts it.
            let replaced = self.identity.as_ref().filter(|_| self.window.is_some());
            Wanted { names: &self.names, replaces: replaced.and_then(|identity| identifier(identity)), challenges }
        };
        let order = async |account: Account| order::obtain(&account, (settings, storage, lock), wanted(), now).await;
        let unknown = || AcmeError::Refused("it does not know the account that it has just created".to_owned());
        match order(account::open(settings, storage, http, lock).await?).await {
            Ok(obtained) => Ok(obtained),
            Err(OrderError::Other(error)) => Err(error),
            Err(OrderError::UnknownAccount) => {
                let result = order(account::create(settings, storage, http, lock).await?).await;
                result.map_err(|error| match error {
                    OrderError::UnknownAccount => unknown(),
                    OrderError::Other(error) => error,
                })
            }
        }
    }

    /// Notes a failure, and when to try again.
    fn failed(
        &mut self,
        error: AcmeError,
        (settings, storage, http): (&Settings, &Storage, &Http),
        before: Failures,
        now: i64,
    ) -> Event {
        let count = before.count.saturating_add(1);
        let requested = http.take_requested_delay();
        let delay = schedule::retry_delay(count, settings.retry_delay, requested, random_position());
        let retry_at = now.saturating_add(seconds(delay).max(1));
        let written = storage.write_failures(&self.id, Failures { count, retry_at });
        self.blocked_until = if written.is_err() { retry_at } else { 0 };
        self.event(Outcome::Failed { error: written.err().unwrap_or(error), retry_at })
    }
}

fn validity(identity: &Identity) -> Validity {
    Validity { not_before: identity.not_before(), not_after: identity.not_after }
}

/// The identifier of a certificate in renewal information; `None` for a certificate without that of its CA's key.
fn identifier(identity: &Identity) -> Option<CertificateIdentifier<'static>> {
    CertificateIdentifier::try_from(identity.certified.cert.first()?).ok().map(CertificateIdentifier::into_owned)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A random number of at least 0 and below 1; 0 if the system's random generator fails.
fn random_position() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.0,
    }
}
