//! Random ids of traces and spans. They grant no access.

use std::cell::RefCell;

/// The random bytes that a thread fetches at once.
const BUFFERED: usize = 1024;

struct Buffer {
    bytes: [u8; BUFFERED],
    left: usize,
}

/// Random bytes that are not all zero. Without random bytes of the system, they are not unique, which only mixes up
/// traces.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    thread_local! {
        static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; BUFFERED], left: 0 }) };
    }
    // A thread that is ending has no buffer.
    let taken = BUFFER.try_with(|buffer| buffer.borrow_mut().take()).ok().flatten();
    taken.filter(|id| *id != [0; N]).unwrap_or([0xff; N])
}

impl Buffer {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.left < N {
            aws_lc_rs::rand::fill(&mut self.bytes).ok()?;
            self.left = BUFFERED;
        }
        self.left -= N;
        self.bytes.get(self.left..)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let ids: HashSet<[u8; 8]> = (0..10_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 10_000);
        let ids: HashSet<[u8; 16]> = (0..10_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
