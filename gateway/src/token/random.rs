//! Random words: ids, and tokens that are no more than that.

use std::fmt::Write as _;

use aws_lc_rs::rand;

/// So many random bytes in lower-case hexadecimal; `None` where the system gives none.
pub fn random_hex<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(2 * BYTES), |mut word, byte| {
        // Writing to a String cannot fail.
        let _ = write!(word, "{byte:02x}");
        word
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits_and_no_word_comes_twice() {
        let (one, two) = (random_hex::<16>().unwrap(), random_hex::<16>().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(random_hex::<0>().as_deref(), Some(""));
    }
}
