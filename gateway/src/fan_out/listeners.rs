//! The number of listeners, in total and for each client.

use std::collections::HashMap;

use super::Full;
use crate::client::Prefix;

/// What the maximum number of listeners is divided by for one client.
const CLIENTS: usize = 4;

/// The number of listeners. It has an entry for each client with a listener, and for no other.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    total: usize,
    by_client: HashMap<Prefix, usize>,
}

impl Listeners {
    /// The number of all listeners.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Counts a listener of `client`.
    ///
    /// # Errors
    /// [`Full`]: there are `max` listeners, or a quarter of `max` are those of this client.
    pub(super) fn add(&mut self, client: Prefix, max: usize) -> Result<(), Full> {
        let own = self.by_client.get(&client).copied().unwrap_or_default();
        if self.total >= max || own >= max.div_ceil(CLIENTS) {
            return Err(Full);
        }
        self.by_client.insert(client, own + 1);
        self.total += 1;
        Ok(())
    }

    /// Removes a listener of `client` that was counted.
    pub(super) fn remove(&mut self, client: Prefix) {
        let Some(own) = self.by_client.get_mut(&client) else { return };
        *own -= 1;
        if *own == 0 {
            self.by_client.remove(&client);
        }
        self.total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_at_most_a_quarter_of_the_listeners() {
        let client = |number: u8| Prefix::V4([192, 0, 2, number].into());
        let mut listeners = Listeners::default();
        let added = |listeners: &mut Listeners, number: u8| {
            (0..100).take_while(|_| listeners.add(client(number), 16).is_ok()).count()
        };
        let counts: Vec<_> = (0..6).map(|number| added(&mut listeners, number)).collect();
        assert_eq!((counts, listeners.total()), (vec![4, 4, 4, 4, 0, 0], 16));
        listeners.remove(client(1));
        assert_eq!((added(&mut listeners, 2), added(&mut listeners, 5)), (0, 1));
        for number in [0, 1, 2, 3, 5] {
            for _ in 0..4 {
                listeners.remove(client(number));
            }
        }
        assert_eq!((listeners.total(), listeners.by_client.len()), (0, 0), "a client without listeners has no entry");
        assert_eq!(listeners.add(client(0), 1), Ok(()));
    }
}
