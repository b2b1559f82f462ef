//! The compressors.

use std::io::{self, Write as _};

use brotli::CompressorWriter;
use flate2::write::GzEncoder;

use super::Encoding;

/// How much time and memory a compressor takes.
#[derive(Clone, Copy, Debug)]
struct Levels {
    zstd: i32,
    br: u32,
    gzip: u32,
    /// The window of zstd and brotli in bits; gzip has 32 KiB. RFC 9659 allows 23.
    window_bits: u32,
}

/// For a body that is compressed once and sent many times. Higher levels take several times as long for a few percent
/// of the size. Cached bodies are rarely larger than the window.
const STORED: Levels = Levels { zstd: 9, br: 6, gzip: 6, window_bits: 19 };

/// For a body that is compressed for one client, on the thread that serves it: faster than the network of most
/// clients. The window bounds the memory of each response that is being sent, of which there may be a thousand.
const STREAMED: Levels = Levels { zstd: 3, br: 4, gzip: 4, window_bits: 17 };

/// The buffer of the brotli compressor, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Compresses one response body piece by piece.
pub struct Encoder {
    kind: Kind,
    /// Whether something was compressed since the last flush.
    has_unflushed: bool,
}

enum Kind {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// A compressor for a response that is sent while it is compressed.
    ///
    /// # Errors
    /// A lack of memory.
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        Self::with(encoding, STREAMED)
    }

    fn with(encoding: Encoding, levels: Levels) -> io::Result<Self> {
        let out = Vec::new();
        let kind = match encoding {
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, levels.zstd)?;
                encoder.window_log(levels.window_bits)?;
                Kind::Zstd(encoder)
            }
            Encoding::Br => {
                Kind::Br(Box::new(CompressorWriter::new(out, BROTLI_BUFFER_BYTES, levels.br, levels.window_bits)))
            }
            Encoding::Gzip => Kind::Gzip(GzEncoder::new(out, flate2::Compression::new(levels.gzip))),
        };
        Ok(Self { kind, has_unflushed: false })
    }

    /// Compresses `data`.
    ///
    /// # Errors
    /// Of the compressor.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.has_unflushed = true;
        match &mut self.kind {
            Kind::Zstd(encoder) => encoder.write_all(data),
            Kind::Br(encoder) => encoder.write_all(data),
            Kind::Gzip(encoder) => encoder.write_all(data),
        }
    }

    /// Completes the output of everything that was pushed, so that the client can decode it.
    ///
    /// # Errors
    /// Of the compressor.
    pub fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.has_unflushed) {
            return Ok(());
        }
        match &mut self.kind {
            Kind::Zstd(encoder) => encoder.flush(),
            Kind::Br(encoder) => encoder.flush(),
            Kind::Gzip(encoder) => encoder.flush(),
        }
    }

    /// The number of bytes that [`take`](Self::take) would return.
    pub fn ready_bytes(&self) -> usize {
        match &self.kind {
            Kind::Zstd(encoder) => encoder.get_ref().len(),
            Kind::Br(encoder) => encoder.get_ref().len(),
            Kind::Gzip(encoder) => encoder.get_ref().len(),
        }
    }

    /// Takes the output so far.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.kind {
            Kind::Zstd(encoder) => encoder.get_mut(),
            Kind::Br(encoder) => encoder.get_mut(),
            Kind::Gzip(encoder) => encoder.get_mut(),
        })
    }

    /// Ends the body and returns the rest of the output.
    ///
    /// # Errors
    /// Of the compressor.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.kind {
            Kind::Zstd(encoder) => encoder.finish(),
            Kind::Br(encoder) => Ok(encoder.into_inner()),
            Kind::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// Compresses a complete body that is sent many times; `None` if that does not make it smaller.
///
/// # Errors
/// Of the compressor.
pub fn compress(encoding: Encoding, body: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut encoder = Encoder::with(encoding, STORED)?;
    encoder.push(body)?;
    let compressed = encoder.finish()?;
    Ok((compressed.len() < body.len()).then_some(compressed))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Decodes as much of `compressed` as there is.
    fn decoded(encoding: Encoding, compressed: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn io::Read> = match encoding {
            Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(compressed).unwrap()),
            Encoding::Br => Box::new(brotli::Decompressor::new(compressed, 4096)),
            Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(compressed)),
        };
        let (mut body, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) | Err(_) => return body,
                Ok(count) => body.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..)
            .flat_map(|number| format!("{{\"number\":{}}},", number.wrapping_mul(7919)).into_bytes())
            .take(bytes)
            .collect()
    }

    #[test]
    fn every_length_is_decoded_to_the_same() {
        for encoding in Encoding::ALL {
            for bytes in [0, 1, 255, 256, 4095, 4096, 4097, 70_000, 1_000_000] {
                let body = text(bytes);
                let mut encoder = Encoder::new(encoding).unwrap();
                let mut compressed = Vec::new();
                for piece in body.chunks(1 + bytes / 7) {
                    encoder.push(piece).unwrap();
                    compressed.extend(encoder.take());
                }
                compressed.extend(encoder.finish().unwrap());
                assert!(decoded(encoding, &compressed) == body, "{encoding:?} {bytes}");
                if let Some(whole) = compress(encoding, &body).unwrap() {
                    assert!(decoded(encoding, &whole) == body, "{encoding:?} {bytes}");
                    assert!(whole.len() < body.len());
                }
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_decoded() {
        for encoding in Encoding::ALL {
            let mut encoder = Encoder::new(encoding).unwrap();
            let (mut compressed, mut expected) = (Vec::new(), Vec::new());
            for number in 0..5 {
                let piece = format!("event {number}\n").into_bytes();
                encoder.push(&piece).unwrap();
                encoder.flush().unwrap();
                compressed.extend(encoder.take());
                expected.extend(piece);
                assert_eq!(decoded(encoding, &compressed), expected, "{encoding:?}");
                // A second flush has nothing to add.
                encoder.flush().unwrap();
                assert_eq!(encoder.ready_bytes(), 0, "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_body_that_does_not_shrink_stays_as_it_is() {
        for encoding in Encoding::ALL {
            let mut state = 1_u64;
            let noise: Vec<u8> = (0..4096)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .collect();
            assert_eq!(compress(encoding, &noise).unwrap(), None, "{encoding:?}");
            assert!(compress(encoding, &text(4096)).unwrap().unwrap().len() < 2048, "{encoding:?}");
        }
    }

    #[test]
    fn the_same_body_is_always_compressed_to_the_same_bytes() {
        for encoding in Encoding::ALL {
            assert_eq!(compress(encoding, &text(9999)).unwrap(), compress(encoding, &text(9999)).unwrap());
        }
    }
}
