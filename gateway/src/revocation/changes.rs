//! Notifies the watchers of accounts of changes. Identities share a fixed number of channels, so that the memory does
//! not depend on them: a change wakes the watchers of one channel, and each checks its own account.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::watch;

/// The number of channels.
const CHANNELS: u64 = 256;

/// The changes of the identities of one channel so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Changes of one of the identities.
    pub(super) named: u64,
    /// Changes that any identity may have.
    pub(super) resets: u64,
}

/// The channels.
pub(super) struct Changes {
    channels: Box<[watch::Sender<Version>]>,
    hasher: RandomState,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { channels: (0..CHANNELS).map(|_| watch::Sender::default()).collect(), hasher: RandomState::new() }
    }

    /// The account of `identity` may have changed.
    pub(super) fn account(&self, identity: &str) {
        if let Some(channel) = self.channel(identity) {
            channel.send_modify(|version| version.named += 1);
        }
    }

    /// Any account may have changed.
    pub(super) fn all(&self) {
        for channel in &self.channels {
            channel.send_modify(|version| version.resets += 1);
        }
    }

    /// The versions of the channel of `identity`; `None` does not occur: each identity has one.
    pub(super) fn subscribe(&self, identity: &str) -> Option<watch::Receiver<Version>> {
        self.channel(identity).map(watch::Sender::subscribe)
    }

    fn channel(&self, identity: &str) -> Option<&watch::Sender<Version>> {
        self.channels.get(usize::try_from(self.hasher.hash_one(identity) % CHANNELS).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_the_watchers_of_its_identity_and_a_reset_reaches_all() {
        let changes = Changes::new();
        let names: Vec<_> = (0..1000).map(|number| format!("user{number}")).collect();
        let mut watchers: Vec<_> = names.iter().map(|name| changes.subscribe(name).unwrap()).collect();
        changes.account("user7");
        assert_eq!(*watchers[7].borrow_and_update(), Version { named: 1, resets: 0 });
        let woken = watchers.iter().filter(|watcher| watcher.has_changed().unwrap()).count();
        assert!(woken < 50, "{woken} other identities share the channel");
        changes.all();
        assert!(watchers.iter().all(|watcher| watcher.has_changed().unwrap()));
        assert_eq!(*watchers[7].borrow_and_update(), Version { named: 1, resets: 1 });
    }
}
