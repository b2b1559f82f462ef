//! Hexadecimal text, and random ids made of it.

use std::fmt::Write;

/// The system's random number generator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoRandomness;

/// Two lower-case digits per byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of [`encode`]; `None` if the text is not hexadecimal.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

/// A globally unique id: 128 random bits as 32 digits.
pub(crate) fn random_id() -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(encode(&bytes))
}

/// A unique id of 32 digits that is greater than those of earlier microseconds: `micros` since the Unix epoch as 14
/// digits (until the year 4253), and 72 random bits.
pub(crate) fn ordered_id(micros: u64) -> Result<String, NoRandomness> {
    let mut bytes = [0; 9];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(format!("{:014x}{}", micros & 0x00ff_ffff_ffff_ffff, encode(&bytes)))
}

/// A secret that cannot be guessed: 256 random bits as 64 digits.
pub(crate) fn random_key() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(encode(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_eq!(decode("000fa0FF").as_deref(), Some([0, 0x0f, 0xa0, 0xff].as_slice()));
        assert_eq!((decode("0"), decode("0g"), decode("é")), (None, None, None));
        assert_eq!(random_id().unwrap().len(), 32);
        assert_ne!(random_id(), random_id());
        let ordered = [0, 1, 255, 1_795_834_800_000_000, u64::MAX].map(|micros| ordered_id(micros).unwrap());
        assert!(ordered.is_sorted() && ordered.iter().all(|id| id.len() == 32), "{ordered:?}");
        assert_ne!(ordered_id(1), ordered_id(1));
        assert_eq!(random_key().unwrap().len(), 64);
        assert_ne!(random_key(), random_key());
    }
}
