//! A cache of verified tokens, so that a token used for many requests is verified once.
//!
//! The table has a fixed size: 4,096 sets of 4 entries. Each token maps to one set; in a full set, a new token
//! replaces the one that expires first. Lookups take no lock and write to no shared memory. Two workers that
//! verify the same new token concurrently may both insert it; the duplicate lasts until it expires.
//!
//! All bytes of a token are compared. The set is selected by a hash of its end, which is part of the signature
//! and so evenly distributed. The hash is SipHash with a random key per table.
//!
//! The comparison is not constant-time, but only happens if all 64 bits of the hash are equal. To learn from
//! its timing, an attacker would need tokens with the same hash, which without the key takes 2^64 attempts, or
//! knowledge of the end of the token, which is the secret.
//!
//! Only tokens with a valid signature are inserted, so unauthenticated clients cannot fill the table. A user
//! who logs in often can displace the tokens of others, which costs them a verification per request (a few
//! microseconds) and nothing else.
//!
//! Memory: 0.3 MB initially, and at most 36 MB if every entry has a token of the maximum length; a typical
//! token adds 500 bytes.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::{Presented, Verified};

const SETS: usize = 4096;
const SLOTS: usize = 4;

/// Maximum length of a cached token, in bytes.
const MAX_BYTES: usize = 1024;

/// Number of bytes hashed at the end of a token: 192 bits of its signature.
const HASHED_BYTES: usize = 32;

/// A verified token.
struct CachedToken {
    hash: u64,
    token: Box<[u8]>,
    verified: Arc<Verified>,
    /// Index of the key that verified it.
    key: usize,
}

impl CachedToken {
    fn is_of(&self, hash: u64, token: &Presented<'_>) -> bool {
        self.hash == hash && *self.token == *token.bytes
    }
}

/// The slot of one token.
#[derive(Default)]
struct Slot {
    /// Hash of the token in the slot, checked before the token itself. It may be stored late, which costs a
    /// verification.
    hint: AtomicU64,
    entry: ArcSwapOption<CachedToken>,
}

/// The slots of one set, in one cache line.
#[derive(Default)]
#[repr(align(64))]
struct SlotSet([Slot; SLOTS]);

impl SlotSet {
    /// The slots that may hold a token with this hash.
    fn hinted(&self, hash: u64) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter(move |slot| slot.hint.load(Ordering::Acquire) == hash)
    }

    /// The slot that is empty or expires first.
    fn next_free(&self) -> Option<&Slot> {
        // Empty slots sort before any expiry time.
        self.0.iter().min_by_key(|slot| slot.entry.load().as_ref().map(|entry| entry.verified.expires_at))
    }
}

/// The cache.
pub(super) struct Seen {
    sets: Box<[SlotSet]>,
    hasher: RandomState,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| SlotSet::default()).collect(), hasher: RandomState::new() }
    }

    /// Returns the claims of a verified `token` and the index of its key. The caller checks that they are still
    /// valid.
    pub(super) fn get(&self, token: &Presented<'_>) -> Option<(Arc<Verified>, usize)> {
        let hash = self.hash(token);
        self.set(hash)?.hinted(hash).find_map(|slot| {
            let entry = slot.entry.load();
            let entry = entry.as_ref().filter(|entry| entry.is_of(hash, token))?;
            Some((Arc::clone(&entry.verified), entry.key))
        })
    }

    /// Caches `token`, which was verified by the key with index `key`.
    pub(super) fn insert(&self, token: &Presented<'_>, verified: Arc<Verified>, key: usize) {
        if token.bytes.len() > MAX_BYTES {
            return;
        }
        let hash = self.hash(token);
        let Some(set) = self.set(hash) else { return };
        // It is present if it was no longer valid, or was inserted by another worker.
        let has_it = |slot: &&Slot| slot.entry.load().as_ref().is_some_and(|entry| entry.is_of(hash, token));
        let Some(slot) = set.hinted(hash).find(has_it).or_else(|| set.next_free()) else { return };
        slot.entry.store(Some(Arc::new(CachedToken { hash, token: token.bytes.into(), verified, key })));
        slot.hint.store(hash, Ordering::Release);
    }

    fn hash(&self, token: &Presented<'_>) -> u64 {
        let end = token.bytes.len().saturating_sub(HASHED_BYTES);
        self.hasher.hash_one(token.bytes.get(end..).unwrap_or_default())
    }

    fn set(&self, hash: u64) -> Option<&SlotSet> {
        let sets = u64::try_from(self.sets.len()).ok()?;
        self.sets.get(usize::try_from(hash % sets).ok()?)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.0).filter(|slot| slot.entry.load().is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn verified(expires_at: i64) -> Arc<Verified> {
        let (identity, id) = ("user01".into(), "jti:1".into());
        let scopes = crate::scope::Scopes::default();
        Arc::new(Verified { identity, issued_at: 0, not_before: 0, expires_at, id, password_mark: None, scopes })
    }

    fn presented(token: &str) -> Presented<'_> {
        Presented::new(token.as_bytes()).unwrap()
    }

    fn insert(seen: &Seen, token: &str, expires_at: i64) {
        seen.insert(&presented(token), verified(expires_at), 0);
    }

    fn has(seen: &Seen, token: &str) -> bool {
        seen.get(&presented(token)).is_some()
    }

    /// Tokens that map to the same set of `seen`.
    fn of_one_set(seen: &Seen, count: usize) -> Vec<String> {
        let set = |token: &String| seen.hash(&presented(token)) % SETS as u64;
        (0_u64..).map(|number| number.to_string()).filter(|token| set(token) == 0).take(count).collect()
    }

    #[test]
    fn only_inserted_tokens_are_found() {
        let seen = Seen::new();
        insert(&seen, "a", 5);
        assert_eq!(seen.get(&presented("a")), Some((verified(5), 0)));
        assert!(!has(&seen, "b"));
    }

    #[test]
    fn all_bytes_are_compared_although_only_the_end_is_hashed() {
        let seen = Seen::new();
        let end = "e".repeat(HASHED_BYTES);
        let [one, other] = ["header.payload.", "header.payl0ad."].map(|start| format!("{start}{end}"));
        assert_eq!(seen.hash(&presented(&one)), seen.hash(&presented(&other)));
        insert(&seen, &one, 5);
        assert!(has(&seen, &one));
        assert!(!has(&seen, &other) && !has(&seen, &end) && !has(&seen, &format!("x{one}")));
        // Tokens with the same hash have separate slots.
        insert(&seen, &other, 6);
        assert_eq!((seen.get(&presented(&one)), seen.len()), (Some((verified(5), 0)), 2));
    }

    #[test]
    fn in_a_full_set_the_first_to_expire_is_replaced() {
        let seen = Seen::new();
        let tokens = of_one_set(&seen, SLOTS + 1);
        for (token, expires_at) in tokens.iter().zip([30, 10, 20, 40, 50]) {
            insert(&seen, token, expires_at);
        }
        let found: Vec<bool> = tokens.iter().map(|token| has(&seen, token)).collect();
        assert_eq!(found, [true, false, true, true, true]);
    }

    #[test]
    fn concurrent_workers_find_their_own_value_or_none() {
        let seen = Seen::new();
        let tokens = of_one_set(&seen, 2 * SLOTS);
        thread::scope(|scope| {
            for worker in 0..4 {
                let (seen, tokens) = (&seen, &tokens);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let expires_at = (round + worker) % tokens.len();
                        let token = &tokens[expires_at];
                        insert(seen, token, i64::try_from(expires_at).unwrap());
                        if let Some((found, _)) = seen.get(&presented(token)) {
                            assert_eq!(usize::try_from(found.expires_at), Ok(expires_at));
                        }
                    }
                });
            }
        });
        assert!((1..=SLOTS).contains(&seen.len()));
    }

    #[test]
    fn a_token_has_one_slot() {
        let seen = Seen::new();
        for expires_at in 0..10 {
            insert(&seen, "a", expires_at);
        }
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn the_size_is_fixed() {
        let seen = Seen::new();
        for number in 0..100_000 {
            insert(&seen, &number.to_string(), number);
        }
        assert!(seen.len() <= SETS * SLOTS);
        let size = SETS * size_of::<SlotSet>();
        assert!(size < 300_000, "{size} bytes are more than the documentation says");
    }

    #[test]
    fn a_long_token_is_not_cached() {
        let seen = Seen::new();
        insert(&seen, &"a".repeat(MAX_BYTES + 1), 5);
        assert_eq!(seen.len(), 0);
        insert(&seen, &"a".repeat(MAX_BYTES), 5);
        assert_eq!(seen.len(), 1);
    }
}
