//! Compression: any `Accept-Encoding` against a reference, and entity tags that are mapped back to the same.

use holodule_gateway::compress::{self, Encoding, TagChange, is_matched, negotiate, restore, tag_of};
use http::header::{ACCEPT_ENCODING, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};

use crate::support::coded::decoded;
use crate::support::random::{self, Random};

/// The members of a field that is well-formed: each coding and its quality in thousandths.
fn members(random: &mut Random) -> Vec<(&'static str, u16)> {
    let codings = ["gzip", "GZIP", "x-gzip", "br", "Br", "zstd", "identity", "*", "deflate", "x"];
    (0..random.below(6))
        .map(|_| {
            let quality = [0, 1, 10, 500, 501, 999, 1000][random.below(7)];
            (*random.pick(&codings.each_ref()), quality)
        })
        .collect()
}

fn shown(random: &mut Random, members: &[(&str, u16)]) -> String {
    let mut line = String::new();
    for (coding, quality) in members {
        let separator = if line.is_empty() { "" } else { random.pick(&[",", ", ", " ,\t", ",,"]) };
        line.push_str(separator);
        line.push_str(coding);
        if *quality < 1000 || random.one_in(3) {
            let weight = random.pick(&[";q=", "; q=", " ;\tQ="]);
            line.push_str(&format!("{weight}{}.{:03}", quality / 1000, quality % 1000));
        }
    }
    line
}

/// RFC 9110, section 12.5.3, without parsing: the lowest quality of each name, and `*` for the others.
fn reference(members: &[(&str, u16)], offered: &[Encoding]) -> Option<Encoding> {
    let lowest = |names: &[&str]| {
        let named = members.iter().filter(|(coding, _)| names.contains(&coding.to_lowercase().as_str()));
        named.map(|(_, quality)| *quality).min()
    };
    let quality = |encoding: Encoding| {
        let names: &[&str] = match encoding {
            Encoding::Gzip => &["gzip", "x-gzip"],
            Encoding::Br => &["br"],
            Encoding::Zstd => &["zstd"],
        };
        lowest(names).or(lowest(&["*"])).unwrap_or(0)
    };
    let best = offered.iter().map(|encoding| quality(*encoding)).max()?;
    let is_preferred = best > 0 && best >= lowest(&["identity"]).unwrap_or(0);
    offered.iter().copied().find(|encoding| is_preferred && quality(*encoding) == best)
}

#[test]
fn the_coding_is_that_of_the_reference() {
    random::check("Accept-Encoding against a reference", 50_000, |random| {
        let members = members(random);
        let line = shown(random, &members);
        let mut offered = Encoding::ALL.to_vec();
        for _ in 0..random.below(4) {
            let (place, other) = (random.below(offered.len()), random.below(offered.len()));
            offered.swap(place, other);
        }
        offered.truncate(random.below(4));
        let request = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(&line).unwrap())]);
        assert_eq!(negotiate(&request, &offered), reference(&members, &offered), "{line:?} {offered:?}");
    });
}

#[test]
fn no_field_makes_an_offer_that_was_not_made() {
    const ALPHABET: &[u8] = b"gzipbrstd*;q=01.5, \t\"\\\xff";
    random::check("Accept-Encoding of any bytes", 50_000, |random| {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| ALPHABET[random.below(ALPHABET.len())]).collect();
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return };
        let offered = [Encoding::Br];
        let chosen = negotiate(&HeaderMap::from_iter([(ACCEPT_ENCODING, value)]), &offered);
        assert!(chosen.is_none_or(|chosen| offered.contains(&chosen)));
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(chosen.is_none() || text.contains("br") || text.contains('*'), "{text}");
    });
}

#[test]
fn every_tag_is_mapped_back_to_itself() {
    random::check("entity tags of any form", 50_000, |random| {
        let pieces = ["a", "-", "gzip", "-gzip", "-br", "-zstd", "-identity", "W/", ",", "'", "\u{e9}"];
        let inner: String = (0..random.below(5)).map(|_| *random.pick(&pieces.each_ref())).collect();
        let own = format!("{}\"{inner}\"", random.pick(&["", "W/"]));
        let own = HeaderValue::from_bytes(own.as_bytes()).unwrap();
        let received = HeaderMap::from_iter([(ETAG, own.clone())]);
        let mut sent = Vec::new();
        for form in Encoding::ALL.into_iter().map(Some).chain([None]) {
            let tag = match tag_of(&received, form) {
                TagChange::Replace(tag) => tag,
                TagChange::Keep => own.clone(),
                TagChange::Remove => panic!("{own:?} is valid"),
            };
            assert!(is_matched(tag.as_bytes(), own.as_bytes()), "{tag:?} {own:?}");
            assert!(!sent.contains(&tag), "two forms of {own:?} are {tag:?}");
            for name in [IF_MATCH, IF_NONE_MATCH] {
                let mut request = HeaderMap::from_iter([(name.clone(), tag.clone())]);
                restore(&mut request);
                assert_eq!(request, HeaderMap::from_iter([(name, own.clone())]), "{tag:?}");
            }
            sent.push(tag);
        }
    });
}

#[test]
fn every_body_is_decoded_to_itself_however_it_is_cut() {
    random::check("compressed bodies", 300, |random| {
        let words = ["holodule ", "歌枠\n", "{\"key\":1},", "\0\u{1}\u{2}", "a"];
        let mut body = Vec::new();
        for _ in 0..random.below(3000) {
            body.extend_from_slice(random.pick(&words).as_bytes());
            if random.one_in(9) {
                body.push(random.byte());
            }
        }
        for encoding in Encoding::ALL {
            let mut encoder = compress::Encoder::new(encoding).unwrap();
            let (mut rest, mut sent) = (body.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.below(rest.len()) + 1);
                encoder.push(piece).unwrap();
                if random.one_in(2) {
                    encoder.flush().unwrap();
                }
                sent.extend(encoder.take());
                rest = after;
            }
            sent.extend(encoder.finish().unwrap());
            assert!(decoded(encoding.name(), &sent).unwrap() == body, "{encoding:?}");
        }
    });
}
