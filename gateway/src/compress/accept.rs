//! `Accept-Encoding` (RFC 9110, section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::Encoding;
use crate::syntax::{is_tchar, list_members, trim_ows};

/// The quality of a coding in thousandths; 0 means not acceptable.
type Quality = u16;

/// A coding without a weight.
const FULL: Quality = 1000;

/// The coding to use for a request with the fields `request`, among those that are `offered`; `None` for identity.
///
/// The highest quality wins, and among equal ones the order of the offer. Identity is preferred only if it is listed
/// with a higher quality. Without the field, if it is malformed, or if no offered coding is acceptable, it is identity,
/// even where the request refuses that: a `406` would help no client. A coding that is listed twice has the lower
/// quality.
pub fn negotiate(request: &HeaderMap, offered: &[Encoding]) -> Option<Encoding> {
    if !is_negotiated(request, offered) {
        return None;
    }
    let accepted = Accepted::parse(request)?;
    let mut best = None;
    let mut best_quality = 0;
    for &encoding in offered {
        let quality = accepted.quality(encoding);
        if quality > best_quality {
            (best, best_quality) = (Some(encoding), quality);
        }
    }
    best.filter(|_| best_quality >= accepted.identity.unwrap_or_default())
}

/// Whether the form of a response depends on the fields `request`: it has `Accept-Encoding`, and codings are offered.
pub fn is_negotiated(request: &HeaderMap, offered: &[Encoding]) -> bool {
    !offered.is_empty() && request.contains_key(ACCEPT_ENCODING)
}

/// The qualities in a field; `None` for what is not listed.
#[derive(Clone, Copy, Debug, Default)]
struct Accepted {
    zstd: Option<Quality>,
    br: Option<Quality>,
    gzip: Option<Quality>,
    identity: Option<Quality>,
    any: Option<Quality>,
}

impl Accepted {
    /// `None` if a member is malformed.
    fn parse(request: &HeaderMap) -> Option<Self> {
        let mut accepted = Self::default();
        for member in list_members(request, &ACCEPT_ENCODING) {
            let (coding, quality) = parse_member(member)?;
            let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
            let place = match coding {
                b"*" => &mut accepted.any,
                // RFC 9110, section 8.4.1.3.
                _ if is("gzip") || is("x-gzip") => &mut accepted.gzip,
                _ if is("br") => &mut accepted.br,
                _ if is("zstd") => &mut accepted.zstd,
                _ if is("identity") => &mut accepted.identity,
                _ => continue,
            };
            *place = Some(place.map_or(quality, |before| before.min(quality)));
        }
        Some(accepted)
    }

    fn quality(&self, encoding: Encoding) -> Quality {
        let listed = match encoding {
            Encoding::Zstd => self.zstd,
            Encoding::Br => self.br,
            Encoding::Gzip => self.gzip,
        };
        listed.or(self.any).unwrap_or_default()
    }
}

/// Parses `coding [ OWS ";" OWS "q=" qvalue ]`.
fn parse_member(member: &[u8]) -> Option<(&[u8], Quality)> {
    let end = member.iter().position(|&byte| byte == b';');
    let (coding, quality) = match end {
        None => (member, FULL),
        Some(end) => {
            let (coding, weight) = member.split_at_checked(end)?;
            let (b'q' | b'Q', weight) = trim_ows(weight.get(1..)?).split_first()? else { return None };
            (trim_ows(coding), parse_quality(weight.strip_prefix(b"=")?)?)
        }
    };
    (!coding.is_empty() && coding.iter().all(|&byte| is_tchar(byte))).then_some((coding, quality))
}

/// Parses a `qvalue` (RFC 9110, section 12.4.2): 0 to 1 with at most three decimals.
fn parse_quality(text: &[u8]) -> Option<Quality> {
    let (first, rest) = text.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        thousandths = thousandths * 10 + Quality::from(digit.is_ascii_digit().then_some(digit)? - b'0');
    }
    match first {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(FULL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn negotiated(lines: &[&str], offered: &[Encoding]) -> Option<Encoding> {
        let fields = lines.iter().map(|line| (ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap()));
        negotiate(&fields.collect(), offered)
    }

    fn of_all(line: &str) -> Option<Encoding> {
        negotiated(&[line], &Encoding::ALL)
    }

    #[test]
    fn the_server_decides_among_equal_qualities() {
        for line in ["gzip, deflate, br, zstd", "zstd;q=1.0, gzip;q=1, br", "*", "*;q=0.001", "ZSTD;Q=0.5,br;q=0.5"] {
            assert_eq!(of_all(line), Some(Encoding::Zstd), "{line}");
        }
        let reversed = [Encoding::Gzip, Encoding::Br, Encoding::Zstd];
        assert_eq!(negotiated(&["gzip, br, zstd"], &reversed), Some(Encoding::Gzip));
        assert_eq!(negotiated(&["zstd", "br"], &reversed), Some(Encoding::Br));
        assert_eq!(negotiated(&["zstd, br"], &[Encoding::Gzip]), None);
        assert_eq!(negotiated(&["gzip"], &[]), None);
    }

    #[test]
    fn the_highest_quality_wins() {
        for (line, expected) in [
            ("gzip;q=0.9, br;q=0.8, zstd;q=0.7", Some(Encoding::Gzip)),
            ("gzip;q=0.9, br;q=0.901", Some(Encoding::Br)),
            ("gzip;q=0.1, *;q=0.2", Some(Encoding::Zstd)),
            ("zstd;q=0, *", Some(Encoding::Br)),
            ("zstd;q=0, br;q=0.000, *;q=1", Some(Encoding::Gzip)),
            ("x-gzip", Some(Encoding::Gzip)),
            ("x-gzip;q=0, gzip", None),
            ("gzip, gzip;q=0", None),
            ("gzip\t;\tq=0.5", Some(Encoding::Gzip)),
            (",, gzip ,", Some(Encoding::Gzip)),
        ] {
            assert_eq!(of_all(line), expected, "{line}");
        }
    }

    #[test]
    fn identity_wins_only_if_it_is_listed_with_a_higher_quality() {
        for (line, expected) in [
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.6", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Encoding::Gzip)),
            ("gzip, identity", Some(Encoding::Gzip)),
            ("gzip;q=0.1, *;q=0", Some(Encoding::Gzip)),
            ("gzip;q=0.1, identity;q=0", Some(Encoding::Gzip)),
            ("identity", None),
        ] {
            assert_eq!(of_all(line), expected, "{line}");
        }
    }

    #[test]
    fn what_refuses_every_coding_gets_identity() {
        for line in ["", "identity;q=0", "*;q=0", "gzip;q=0", "deflate, compress", "identity;q=0, deflate", ","] {
            assert_eq!(of_all(line), None, "{line}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &Encoding::ALL), None);
    }

    #[test]
    fn a_malformed_field_is_ignored_as_a_whole() {
        for line in [
            "gzip;",
            "gzip;q",
            "gzip;q=",
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=.5",
            "gzip;q=-1",
            "gzip;q=1e0",
            "gzip;q= 1",
            "gzip;q =1",
            "gzip;q=\"1\"",
            "gzip;level=1",
            "gzip;q=1;x=2",
            ";q=1",
            "gzip br",
            "gzip/1",
            "\"gzip\"",
            "\u{e9}",
        ] {
            assert_eq!(of_all(line), None, "{line}");
            assert_eq!(of_all(&format!("br, {line}")), None, "{line}");
            assert_eq!(negotiated(&["br", line], &Encoding::ALL), None, "{line}");
        }
    }

    #[test]
    fn a_quality_has_at_most_three_decimals() {
        for (text, quality) in [
            ("0", 0),
            ("0.", 0),
            ("0.0", 0),
            ("0.001", 1),
            ("0.01", 10),
            ("0.5", 500),
            ("0.999", 999),
            ("1", 1000),
            ("1.", 1000),
            ("1.000", 1000),
        ] {
            assert_eq!(parse_quality(text.as_bytes()), Some(quality), "{text}");
        }
        for text in ["", ".", "00", "01", "1.1", "0.1234", "2", "0.a", "1.0000", "+1"] {
            assert_eq!(parse_quality(text.as_bytes()), None, "{text}");
        }
    }
}
