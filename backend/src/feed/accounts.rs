//! Watches for changes to accounts, and sends beats while it can.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Shared;
use super::calendars;
use super::detection::{detect, every};
use super::event::Event;
use crate::clock::now;
use crate::store::{AccountChange, ChangeDetection, DisabledUser, Store, StoreError};

/// The interval of beats and of polls.
const BEAT_INTERVAL: Duration = Duration::from_millis(250);
/// The maximum age of the state that a beat covers.
const MAX_BEAT_AGE: Duration = Duration::from_millis(500);
/// The interval at which expired identities and logouts are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until it is aborted. `id` is unique to this process.
pub(super) async fn watch(store: &Store, shared: &Shared, id: String) {
    let (disabled, received) = calendars::queue();
    let mut watcher = AccountWatcher { store, shared, id, disabled, beat: 0, failing: false };
    tokio::join!(sweep(store, shared), calendars::end_feeds(store, received), watcher.watch());
}

/// Removes expired identities and logouts, forever.
async fn sweep(store: &Store, shared: &Shared) {
    let mut ticks = every(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let gone = shared.watched().expire(Instant::now());
        shared.publish_identities(&gone);
        if let Err(error) = store.remove_expired_logouts(now()).await {
            tracing::warn!(%error, "expired logouts could not be removed");
        }
    }
}

struct AccountWatcher<'a> {
    store: &'a Store,
    shared: &'a Shared,
    id: String,
    /// Receives users who were disabled.
    disabled: mpsc::Sender<DisabledUser>,
    /// Beats sent so far.
    beat: u64,
    /// Whether the last attempt failed.
    failing: bool,
}

impl AccountWatcher<'_> {
    async fn watch(&mut self) {
        let mut ticks = every(BEAT_INTERVAL);
        let detection = detect(self.store, &mut ticks, |error| self.log_failure(error)).await;
        if detection == ChangeDetection::Streaming {
            self.follow().await;
        }
        loop {
            ticks.tick().await;
            let started = Instant::now();
            let polled = if detection == ChangeDetection::LocalOnly { Ok(()) } else { self.poll().await };
            match polled {
                Ok(()) => self.beat_if_fresh(started),
                Err(error) => self.log_failure(&error),
            }
        }
    }

    /// Reads the fingerprints of all watched identities, and publishes those that changed.
    async fn poll(&self) -> Result<(), StoreError> {
        let identities = self.shared.watched().identities();
        let fingerprints = self.store.fingerprints(&identities, now()).await?;
        let changed = self.shared.watched().observe_all(fingerprints);
        self.shared.publish_identities(&changed);
        Ok(())
    }

    /// Publishes the changes that the store streams, until it stops streaming.
    async fn follow(&mut self) {
        let start = Instant::now();
        let mut changes = self.store.changes(&self.id);
        // That an echo was written says nothing; that it comes back in the stream counts.
        let mut echoes = std::pin::pin!(echo(self.store, self.id.clone(), start));
        let mut ticks = every(BEAT_INTERVAL);
        // Whether an unidentified account has changed and a poll is due.
        let mut unknown = false;
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = &mut echoes => continue,
                _ = ticks.tick(), if unknown => {
                    match self.poll().await {
                        Ok(()) => unknown = false,
                        Err(error) => self.log_failure(&error),
                    }
                    continue;
                }
            };
            match change {
                Some(Ok(AccountChange::Identity(identity))) => self.publish_if_watched(&identity),
                Some(Ok(AccountChange::Disabled { user, is_replaced })) => {
                    unknown |= is_replaced;
                    self.publish_if_watched(&user.username);
                    if self.disabled.try_send(user).is_err() {
                        tracing::warn!("many users were disabled at once; their calendar feeds are deleted later");
                    }
                }
                Some(Ok(AccountChange::Unknown)) => unknown = true,
                Some(Ok(AccountChange::All)) => {
                    self.shared.watched().invalidate_all();
                    self.shared.subscribers.publish(&Event::Reset { reset: true });
                }
                Some(Ok(AccountChange::Echo(sent))) => {
                    let sent = u64::try_from(sent).ok().and_then(|sent| start.checked_add(Duration::from_millis(sent)));
                    if let Some(sent) = sent.filter(|_| !unknown) {
                        self.beat_if_fresh(sent);
                    }
                }
                Some(Err(error)) => self.log_failure(&error),
                None => return,
            }
        }
    }

    fn publish_if_watched(&self, identity: &str) {
        if self.shared.watched().invalidate(identity) {
            self.shared.subscribers.publish(&Event::Identity { identity });
        }
    }

    /// Sends a beat if the state as of `time` is recent enough.
    fn beat_if_fresh(&mut self, time: Instant) {
        *self.shared.last_poll() = Some(time);
        if time.elapsed() > MAX_BEAT_AGE {
            return;
        }
        if self.failing {
            tracing::info!("accounts are watched again");
            self.failing = false;
        }
        self.beat += 1;
        self.shared.subscribers.publish(&Event::Beat { beat: self.beat });
    }

    fn log_failure(&mut self, error: &StoreError) {
        if !self.failing {
            tracing::warn!(%error, "accounts cannot be watched; the feed sends no beats");
            self.failing = true;
        }
    }
}

/// Writes the milliseconds since `start` as echoes for [`Store::changes`], forever.
async fn echo(store: &Store, id: String, start: Instant) {
    let mut ticks = every(BEAT_INTERVAL);
    loop {
        ticks.tick().await;
        let sent = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        if let Err(error) = store.echo(&id, sent).await {
            tracing::debug!(%error, "an echo could not be written");
        }
    }
}
