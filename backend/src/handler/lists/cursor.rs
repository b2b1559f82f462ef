//! Cursors: where a page of a list continues.
//!
//! A cursor is base64url (RFC 4648, section 5, without padding) of a version, a digest of the query, and the position of
//! the last entry. It contains nothing that its list does not show, except the store's own order of entries with the
//! same time and key, so it needs no signature: an invented one selects another page of the same list.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::Position;

/// The first byte of a cursor.
const VERSION: u8 = 1;
/// Bytes of the digest of a query.
const DIGEST_BYTES: usize = 8;

/// A digest of the parameters that determine a list, to refuse the cursor of another one.
pub(crate) type QueryDigest = [u8; DIGEST_BYTES];

/// The digest of a canonical text of the parameters.
pub(super) fn query_digest(canonical: &[u8]) -> QueryDigest {
    let hash = digest(&SHA256, canonical);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Why a text is not a cursor of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotACursor {
    /// It has another form.
    #[error("is not a value of next in a response")]
    Malformed,
    /// It belongs to another query.
    #[error("belongs to a query with other parameters: only limit may differ")]
    OtherQuery,
}

/// The cursor of `position` in the list of a query with this canonical text.
pub(crate) fn encode_cursor(canonical: &[u8], position: &Position) -> String {
    encode(&query_digest(canonical), position)
}

/// The position of a cursor of a query with this canonical text.
///
/// # Errors
/// Why it is none.
pub(crate) fn decode_cursor(canonical: &[u8], text: &str) -> Result<Position, String> {
    decode(&query_digest(canonical), text).map_err(|error| format!("the cursor {error}"))
}

/// The cursor of `position` in the list of a query.
pub(super) fn encode(query: &QueryDigest, position: &Position) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(query);
    for text in [&position.datetime, &position.key] {
        // A document of MongoDB has at most 16 MiB.
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(&position.id);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a cursor.
///
/// # Errors
/// [`NotACursor`].
pub(super) fn decode(query: &QueryDigest, text: &str) -> Result<Position, NotACursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotACursor::Malformed)?;
    let rest = bytes.strip_prefix(&[VERSION]).ok_or(NotACursor::Malformed)?;
    let (found, rest) = rest.split_first_chunk::<DIGEST_BYTES>().ok_or(NotACursor::Malformed)?;
    let (datetime, rest) = split_text(rest)?;
    let (key, id) = split_text(rest)?;
    if found != query {
        return Err(NotACursor::OtherQuery);
    }
    Ok(Position { datetime, key, id: id.to_vec() })
}

fn split_text(bytes: &[u8]) -> Result<(String, &[u8]), NotACursor> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(NotACursor::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| NotACursor::Malformed)?;
    let (text, rest) = rest.split_at_checked(length).ok_or(NotACursor::Malformed)?;
    let text = std::str::from_utf8(text).map_err(|_| NotACursor::Malformed)?;
    Ok((text.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position { datetime: "20201209 230000".into(), key: "HL0503_é".into(), id: vec![0, 255, 7] }
    }

    #[test]
    fn a_cursor_is_the_position_in_its_query() {
        let (query, other) = (query_digest(b"a"), query_digest(b"b"));
        let cursor = encode(&query, &position());
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{cursor}");
        assert_eq!(decode(&query, &cursor), Ok(position()));
        assert_eq!(decode(&other, &cursor), Err(NotACursor::OtherQuery));
        let empty = Position { datetime: String::new(), key: String::new(), id: Vec::new() };
        assert_eq!(decode(&query, &encode(&query, &empty)), Ok(empty));
    }

    #[test]
    fn an_invented_cursor_is_malformed_or_some_position() {
        let query = query_digest(b"a");
        let cursor = encode(&query, &position());
        for text in ["", "AQ", "=", "a b", "あ", &format!("{cursor}="), "____", &cursor[..20]] {
            assert_eq!(decode(&query, text), Err(NotACursor::Malformed), "{text}");
        }
        let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for at in 0..bytes.len() {
            assert!(decode(&query, &URL_SAFE_NO_PAD.encode(&bytes[..at])).is_err() || at >= bytes.len() - 3);
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = value;
                // An error is correct too; decoding must not panic.
                if let Ok(found) = decode(&query, &URL_SAFE_NO_PAD.encode(&changed)) {
                    assert!(found.datetime.len() + found.key.len() + found.id.len() <= bytes.len());
                }
            }
        }
        let longest = [&[VERSION][..], &query, &[0xFF; 4], b"x"].concat();
        assert_eq!(decode(&query, &URL_SAFE_NO_PAD.encode(longest)), Err(NotACursor::Malformed));
    }
}
