//! Compression of responses (RFC 9110, section 8.4): which responses, by which content coding, with which entity tag.
//!
//! [`negotiate`] chooses the coding that a request accepts, [`is_compressible`] decides about the response,
//! [`tag_of`] and [`restore`] map entity tags, and [`Encoder`] compresses. Pure: no pingora, no clock, no runtime.

mod accept;
mod eligible;
mod encoder;
mod tag;

pub use accept::{is_negotiated, negotiate};
pub use eligible::{MIN_BYTES, is_compressible, is_digest, is_transformable, merged_vary};
pub use encoder::{Encoder, compress};
pub use tag::{TagChange, is_matched, not_modified_tag, restore, tag_of};

/// A content coding. The gateway has no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    /// All codings, in the order of [`index`](Self::index).
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// The registered name, as in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding called `name`, in lower case; `None` if the gateway has none of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The position in [`ALL`](Self::ALL), for tables with a place for each coding.
    pub const fn index(self) -> usize {
        match self {
            Self::Zstd => 0,
            Self::Br => 1,
            Self::Gzip => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coding_has_its_own_name_and_place() {
        for (place, encoding) in Encoding::ALL.into_iter().enumerate() {
            assert_eq!(encoding.index(), place);
            assert_eq!(Encoding::named(encoding.name()), Some(encoding));
        }
        for unknown in ["", "GZIP", "deflate", "identity", "*", "x-gzip", "compress"] {
            assert_eq!(Encoding::named(unknown), None, "{unknown}");
        }
    }
}
