//! Detects the encoding of a file, and files that are not text.

use std::borrow::Cow;

use encoding_rs::{SHIFT_JIS, UTF_8};

/// A text encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

/// The name of the encoding is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be utf-8, utf-16le, utf-16be, cp932 or another name of the WHATWG Encoding Standard")]
pub struct NotAnEncoding;

impl Encoding {
    /// UTF-8, with or without a byte order mark.
    pub const UTF_8: Self = Self(UTF_8);

    /// The name.
    pub fn name(self) -> &'static str {
        // The standard's decoder of this name implements the Windows variant, which Excel writes.
        if self.0 == SHIFT_JIS { "cp932" } else { self.0.name() }
    }
}

impl std::str::FromStr for Encoding {
    type Err = NotAnEncoding;

    fn from_str(text: &str) -> Result<Self, NotAnEncoding> {
        if text.eq_ignore_ascii_case("cp932") || text.eq_ignore_ascii_case("windows-31j") {
            return Ok(Self(SHIFT_JIS));
        }
        let found = encoding_rs::Encoding::for_label_no_replacement(text.as_bytes());
        found.map(Self).ok_or(NotAnEncoding)
    }
}

/// Why a file cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// It is not a text file.
    #[error("is {0}")]
    Other(&'static str),
    /// It contains invalid bytes. Nothing is stored, so that nothing is lost.
    #[error("is not valid {encoding}: see the bytes near offset {offset}; set the encoding with --encoding")]
    Malformed {
        /// The given encoding, or that of the byte order mark.
        encoding: &'static str,
        /// The offset of the first invalid bytes.
        offset: usize,
    },
    /// It contains NUL bytes as UTF-16 does, but no byte order mark.
    #[error("looks like UTF-16 without a byte order mark: set the encoding with --encoding utf-16le or utf-16be")]
    Utf16,
}

/// Decodes a file to UTF-8 without a byte order mark, and returns its encoding.
///
/// The encoding is that of the byte order mark, else UTF-8 if valid, else cp932 if valid. In other files, and in those
/// that are mostly UTF-8, single rows may contain invalid bytes, which are unchanged.
///
/// # Errors
/// [`NotText`].
pub fn decode(bytes: &[u8], named: Option<Encoding>) -> Result<(Cow<'_, [u8]>, Encoding), NotText> {
    if let Some(other) = other_format(bytes) {
        return Err(NotText::Other(other));
    }
    let marked = encoding_rs::Encoding::for_bom(bytes);
    let (encoding, mark) = match (named, marked) {
        (Some(Encoding(named)), Some((marked, length))) if named == marked => (named, length),
        (Some(Encoding(named)), _) => (named, 0),
        (None, Some(marked)) => marked,
        (None, None) if bytes.iter().take(64).any(|byte| *byte == 0) => return Err(NotText::Utf16),
        (None, None) if is_cp932(bytes) => (SHIFT_JIS, 0),
        (None, None) => (UTF_8, 0),
    };
    let text = bytes.get(mark..).unwrap_or_default();
    if encoding == UTF_8 {
        return Ok((Cow::Borrowed(text), Encoding::UTF_8));
    }
    match encoding.decode_without_bom_handling_and_without_replacement(text) {
        Some(Cow::Borrowed(text)) => Ok((Cow::Borrowed(text.as_bytes()), Encoding(encoding))),
        Some(Cow::Owned(text)) => Ok((Cow::Owned(text.into_bytes()), Encoding(encoding))),
        None => {
            Err(NotText::Malformed { encoding: Encoding(encoding).name(), offset: mark + valid_length(encoding, text) })
        }
    }
}

/// The number of bytes before the first malformed ones, within a character or two.
fn valid_length(encoding: &'static encoding_rs::Encoding, text: &[u8]) -> usize {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut out = vec![0; 4096];
    let mut read = 0;
    loop {
        let rest = text.get(read..).unwrap_or_default();
        let (result, taken, _) = decoder.decode_to_utf8_without_replacement(rest, &mut out, true);
        read += taken;
        match result {
            encoding_rs::DecoderResult::OutputFull => {}
            encoding_rs::DecoderResult::Malformed(bad, after) => {
                return read.saturating_sub(usize::from(bad) + usize::from(after));
            }
            encoding_rs::DecoderResult::InputEmpty => return read,
        }
    }
}

/// Whether bytes that are not UTF-8 are cp932. UTF-8 with a few damaged bytes can be valid cp932, so most of it must
/// not be UTF-8.
fn is_cp932(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_ok()
        || SHIFT_JIS.decode_without_bom_handling_and_without_replacement(bytes).is_none()
    {
        return false;
    }
    let (mut as_utf8, mut other) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        as_utf8 += chunk.valid().bytes().filter(|byte| !byte.is_ascii()).count();
        other += chunk.invalid().len();
    }
    as_utf8 <= other
}

/// Recognises files that are not text by their first bytes.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 10] = [
        (b"PK\x03\x04", "a ZIP archive, such as an .xlsx workbook: save the sheet as CSV UTF-8"),
        (b"PK\x05\x06", "an empty ZIP archive"),
        (b"\xD0\xCF\x11\xE0", "an old Office document, such as an .xls workbook: save the sheet as CSV UTF-8"),
        (b"\x1F\x8B", "compressed with gzip: pipe it through gunzip"),
        (b"BZh", "compressed with bzip2: pipe it through bunzip2"),
        (b"\xFD7zXZ\0", "compressed with xz: pipe it through unxz"),
        (b"\x28\xB5\x2F\xFD", "compressed with zstd: pipe it through unzstd"),
        (b"%PDF-", "a PDF document"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"{\\rtf", "an RTF document"),
    ];
    let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let markup = || match text.get(..5).map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"<?xml") => Some("XML"),
        Some(b"<!doc" | b"<html" | b"<head" | b"<body" | b"<tabl") => Some("an HTML page"),
        _ => None,
    };
    known.map(|(_, name)| *name).or_else(markup)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "key,title\r\nHL0503,尾丸ポルカ①～\r\n";

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    fn cp932(text: &str) -> Vec<u8> {
        let (bytes, _, lost) = SHIFT_JIS.encode(text);
        assert!(!lost);
        bytes.into_owned()
    }

    fn text(bytes: &[u8], named: Option<&str>) -> Result<(String, &'static str), NotText> {
        let named = named.map(|name| name.parse().unwrap());
        decode(bytes, named).map(|(text, encoding)| (String::from_utf8(text.into_owned()).unwrap(), encoding.name()))
    }

    #[test]
    fn each_encoding_is_detected() {
        let marked = [b"\xEF\xBB\xBF", TEXT.as_bytes()].concat();
        for (bytes, name) in [
            (TEXT.as_bytes().to_vec(), "UTF-8"),
            (marked, "UTF-8"),
            (utf16(TEXT, false), "UTF-16LE"),
            (utf16(TEXT, true), "UTF-16BE"),
            (cp932(TEXT), "cp932"),
            (b"key\r\n".to_vec(), "UTF-8"),
            (Vec::new(), "UTF-8"),
        ] {
            let (read, encoding) = text(&bytes, None).unwrap();
            assert_eq!(encoding, name);
            assert!(read == TEXT || !bytes.contains(&b'H'), "{name}: {read}");
        }
    }

    #[test]
    fn a_named_encoding_wins() {
        let unmarked = &utf16(TEXT, false)[2..];
        assert_eq!(text(unmarked, None), Err(NotText::Utf16));
        for name in ["utf-16le", "UTF-16LE"] {
            assert_eq!(text(unmarked, Some(name)).unwrap().0, TEXT);
            assert_eq!(text(&utf16(TEXT, false), Some(name)).unwrap().0, TEXT);
        }
        for name in ["cp932", "Shift_JIS", "sjis", "windows-31j"] {
            assert_eq!(text(&cp932(TEXT), Some(name)).unwrap(), (TEXT.to_owned(), "cp932"));
        }
        assert_eq!("utf-32".parse::<Encoding>(), Err(NotAnEncoding));
    }

    #[test]
    fn damaged_utf8_is_not_detected_as_cp932_and_is_unchanged() {
        let mut damaged = TEXT.repeat(10).into_bytes();
        damaged.extend(b"\xE3\x81,\x81\x40\r\n");
        let (read, encoding) = decode(&damaged, None).unwrap();
        assert_eq!((read.as_ref(), encoding), (damaged.as_slice(), Encoding::UTF_8));
    }

    #[test]
    fn invalid_bytes_are_an_error_with_their_offset() {
        let mut odd = utf16("key", false);
        odd.extend([0x00, 0xD8, 0x41, 0x00]);
        let Err(NotText::Malformed { encoding: "UTF-16LE", offset }) = text(&odd, None) else { panic!() };
        assert!((8..=10).contains(&offset), "{offset}");
        let Err(NotText::Malformed { encoding: "cp932", offset }) = text(b"key,\x82\xA0\xFF,", Some("cp932")) else {
            panic!()
        };
        assert_eq!(offset, 6);
    }

    #[test]
    fn other_formats_are_named() {
        for (bytes, part) in [
            (&b"PK\x03\x04\x14\0"[..], ".xlsx"),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", ".xls"),
            (b"\x1F\x8B\x08", "gzip"),
            (b"%PDF-1.7", "PDF"),
            (b"\xEF\xBB\xBF\n<!DOCTYPE html>", "HTML"),
            (b"<html>", "HTML"),
            (b"<?xml version='1.0'?>", "XML"),
        ] {
            let refused = text(bytes, None).unwrap_err().to_string();
            assert!(refused.starts_with("is ") && refused.contains(part), "{refused}");
        }
    }
}
