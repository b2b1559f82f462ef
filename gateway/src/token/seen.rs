//! The tokens that were verified already, so that one used for many requests is verified once.
//!
//! The table has a fixed size: 4,096 sets of 4 places. A token has one set, given by its
//! SHA-256, with a lock of its own, so that two workers meet only over the same few tokens. In
//! a full set a new token takes the place of the one that expires first.
//!
//! Only tokens with a good signature get in, so strangers fill no place. Whoever can log in often
//! enough can push others' tokens out; that costs those a verification each time (a few
//! microseconds) and nothing else.
//!
//! Memory: 1.7 MB from the start, and at most 16 MB with every place taken by the longest
//! token that is kept; a usual one adds 150 bytes.

use std::array;
use std::sync::{Mutex, PoisonError};

use super::{Digest, Presented, Verified};

const SETS: usize = 4096;
const PLACES: usize = 4;

/// The longest token that is remembered, in bytes; what it says is kept beside it.
const MAX_BYTES: usize = 1024;

/// A token that was found good once.
struct Entry {
    digest: Digest,
    verified: Verified,
    /// The place of the key that verified it.
    key: usize,
}

type Set = [Option<Entry>; PLACES];

/// The table.
pub(super) struct Seen {
    sets: Box<[Mutex<Set>]>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::new(array::from_fn(|_| None))).collect() }
    }

    /// What the token of `digest` said when it was verified, and the place of its key. Whether that
    /// still holds is for the caller to ask.
    pub(super) fn get(&self, digest: &Digest) -> Option<(Verified, usize)> {
        let set = self.set(digest)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = set.iter().flatten().find(|entry| entry.digest == *digest)?;
        Some((entry.verified.clone(), entry.key))
    }

    /// Remembers what `token`, which the key at place `key` verified, says.
    pub(super) fn insert(&self, token: &Presented<'_>, verified: &Verified, key: usize) {
        if token.bytes.len() > MAX_BYTES {
            return;
        }
        let Some(set) = self.set(&token.digest) else { return };
        let entry = Entry { digest: token.digest, verified: verified.clone(), key };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have put the same token there meanwhile.
        let same = set.iter_mut().position(|place| place.as_ref().is_some_and(|seen| seen.digest == token.digest));
        let expires_at = |place: &Option<Entry>| place.as_ref().map(|seen| seen.verified.expires_at);
        // An empty place is less than any time.
        let place = match same {
            Some(place) => set.get_mut(place),
            None => set.iter_mut().min_by_key(|place| expires_at(place)),
        };
        if let Some(place) = place {
            *place = Some(entry);
        }
    }

    fn set(&self, digest: &Digest) -> Option<&Mutex<Set>> {
        let sets = u64::try_from(self.sets.len()).ok()?;
        self.sets.get(usize::try_from(digest.low() % sets).ok()?)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sets.iter().map(|set| set.lock().unwrap().iter().flatten().count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(expires_at: i64) -> Verified {
        Verified { identity: "user01".into(), issued_at: 0, not_before: 0, expires_at, id: "jti:1".into() }
    }

    fn insert(seen: &Seen, token: &str, expires_at: i64) {
        seen.insert(&Presented::new(token.as_bytes()).unwrap(), &verified(expires_at), 0);
    }

    fn has(seen: &Seen, token: &str) -> bool {
        seen.get(&Digest::of(token.as_bytes())).is_some()
    }

    /// Tokens that all fall into one set.
    fn of_one_set(count: usize) -> Vec<String> {
        let set = |token: &String| Digest::of(token.as_bytes()).low() % SETS as u64;
        (0_u64..).map(|number| number.to_string()).filter(|token| set(token) == 0).take(count).collect()
    }

    #[test]
    fn what_was_verified_is_found_and_nothing_else() {
        let seen = Seen::new();
        insert(&seen, "a", 5);
        assert_eq!(seen.get(&Digest::of(b"a")), Some((verified(5), 0)));
        assert!(!has(&seen, "b"));
    }

    #[test]
    fn in_a_full_set_the_one_that_expires_first_gives_way() {
        let seen = Seen::new();
        let tokens = of_one_set(PLACES + 1);
        for (token, expires_at) in tokens.iter().zip([30, 10, 20, 40, 50]) {
            insert(&seen, token, expires_at);
        }
        let kept: Vec<bool> = tokens.iter().map(|token| has(&seen, token)).collect();
        assert_eq!(kept, [true, false, true, true, true]);
    }

    #[test]
    fn a_token_has_one_place() {
        let seen = Seen::new();
        for expires_at in 0..10 {
            insert(&seen, "a", expires_at);
        }
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn no_number_of_tokens_makes_it_larger() {
        let seen = Seen::new();
        for number in 0..100_000 {
            insert(&seen, &number.to_string(), number);
        }
        assert!(seen.len() <= SETS * PLACES);
        let size = SETS * size_of::<Mutex<Set>>();
        assert!(size < 1_750_000, "{size} bytes are more than the documentation says");
    }

    #[test]
    fn a_long_token_is_not_kept() {
        let seen = Seen::new();
        insert(&seen, &"a".repeat(MAX_BYTES + 1), 5);
        assert_eq!(seen.len(), 0);
        insert(&seen, &"a".repeat(MAX_BYTES), 5);
        assert_eq!(seen.len(), 1);
    }
}
