//! Random ids and tokens.

use std::cell::RefCell;

use aws_lc_rs::rand;

/// Length of an id in bytes: 128 bits, so that collisions do not occur in practice.
const ID_BYTES: usize = 16;

/// Number of ids for which a thread requests random bytes at once, since the system call costs more than the
/// bytes: 4 KiB.
const IDS_AT_ONCE: usize = 256;

/// Returns random bytes in lower-case hexadecimal; `None` if the system's random generator fails.
pub fn random_hex<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).ok()?;
    Some(hexadecimal(&bytes))
}

/// Returns 128 random bits in lower-case hexadecimal; `None` if the system's random generator fails. The bits
/// of later ids are buffered in memory, so this is for unique ids only, not for secrets.
pub fn correlation_id() -> Option<String> {
    thread_local! {
        static NEXT: RefCell<Ids> = const { RefCell::new(Ids { ids: [[0; ID_BYTES]; IDS_AT_ONCE], left: 0 }) };
    }
    // A thread that is ending has no buffer.
    let id = NEXT.try_with(|next| next.borrow_mut().take()).ok().flatten()?;
    Some(hexadecimal(&id))
}

/// Unused ids: the first `left` of them.
struct Ids {
    ids: [[u8; ID_BYTES]; IDS_AT_ONCE],
    left: usize,
}

impl Ids {
    fn take(&mut self) -> Option<[u8; ID_BYTES]> {
        if self.left == 0 {
            rand::fill(self.ids.as_flattened_mut()).ok()?;
            self.left = IDS_AT_ONCE;
        }
        self.left -= 1;
        self.ids.get(self.left).copied()
    }
}

fn hexadecimal<const BYTES: usize>(bytes: &[u8; BYTES]) -> String {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
    let digits = bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    // Digits are UTF-8.
    std::str::from_utf8(digits.as_flattened()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn each_byte_has_two_digits_and_values_are_unique() {
        assert_eq!(hexadecimal(&[0x00, 0x9a, 0xf0, 0x0f]), "009af00f");
        let (one, two) = (random_hex::<16>().unwrap(), random_hex::<16>().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(random_hex::<0>().as_deref(), Some(""));
    }

    #[test]
    fn ids_are_unique_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| (0..10 * IDS_AT_ONCE).map(|_| correlation_id().unwrap()).collect::<Vec<_>>()))
            .collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().all(|id| id.len() == 2 * ID_BYTES));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}
