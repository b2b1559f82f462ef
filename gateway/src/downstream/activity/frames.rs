//! Limits frames that carry neither a request nor content.
//!
//! Such a frame costs as much work as any other, and some require a reply. h2 replies to PING and SETTINGS
//! before it reads on, which bounds memory; this rate limit bounds the work.

use std::time::{Duration, Instant};

/// Length of the client connection preface (RFC 9113, section 3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// Length of a frame header (RFC 9113, section 4.1), in bytes.
const HEADER_BYTES: usize = 9;

/// Maximum burst of frames.
const BURST: u32 = 1000;

/// Interval at which one more frame is allowed.
const REFILL: Duration = Duration::from_millis(5);

/// Additional frames allowed per request: clients send priorities and window updates.
const PER_REQUEST: u32 = 4;

/// Response bytes per additional frame allowed: clients send window updates.
const BYTES_PER_FRAME: usize = 256;

/// Payload bytes that count as one more frame.
const PAYLOAD_PER_FRAME: usize = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// Parses and counts the frames of one connection, across reads of any size.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface or payload that are still to be skipped.
    skip: usize,
    /// The frame header being read, and the number of its bytes read so far.
    head: [u8; HEADER_BYTES],
    filled: usize,
    /// Frames that are still allowed.
    left: u32,
    /// When `left` was last refilled.
    refilled: Instant,
    /// Response bytes not yet credited.
    written: usize,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self { skip: PREFACE_BYTES, head: [0; HEADER_BYTES], filled: 0, left: BURST, refilled: now, written: 0 }
    }

    /// Credits `bytes` of responses, for which the client may send window updates.
    pub(super) fn write(&mut self, bytes: usize) {
        self.written += bytes;
        let count = self.written / BYTES_PER_FRAME;
        self.written %= BYTES_PER_FRAME;
        self.add(u32::try_from(count).unwrap_or(BURST));
    }

    /// Consumes `bytes` and returns whether the frames in them are within the limit. Calls `now` only if a
    /// refill is needed.
    pub(super) fn follow(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        let mut is_allowed = true;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return is_allowed;
            }
            let count = (HEADER_BYTES - self.filled).min(bytes.len());
            let (more, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            for (place, byte) in self.head.iter_mut().skip(self.filled).zip(more) {
                *place = *byte;
            }
            self.filled += count;
            bytes = rest;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                is_allowed &= self.take(&now);
            }
        }
    }

    /// Counts the frame whose header was read.
    fn take(&mut self, now: impl Fn() -> Instant) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        let cost = match kind {
            HEADERS => {
                self.add(PER_REQUEST);
                return true;
            }
            // A frame of up to 256 bytes may consist of padding only.
            DATA if length > PAYLOAD_PER_FRAME || (length > 0 && flags & PADDED == 0) => return true,
            DATA if flags & END_STREAM != 0 => return true,
            DATA => 1,
            _ => u32::try_from(1 + length / PAYLOAD_PER_FRAME).unwrap_or(BURST),
        };
        if self.left < cost {
            self.refill(now());
        }
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or_default();
        left.is_some()
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let count = elapsed.as_nanos() / REFILL.as_nanos();
        self.add(u32::try_from(count).unwrap_or(BURST));
        self.refilled = now;
    }

    fn add(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0xff; payload][..]].concat()
    }

    /// The number of frames within the limit, up to `most`, if each arrives in pieces of `size`.
    fn count(frames: &mut Frames, frame: &[u8], most: u32, size: usize, now: Instant) -> u32 {
        (0..most)
            .take_while(|_| frame.chunks(size).all(|piece| frames.follow(piece, || now)))
            .count()
            .try_into()
            .unwrap()
    }

    fn after_preface(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        // The preface does not count as a frame, whatever its bytes.
        assert!(frames.follow(&[0; PREFACE_BYTES], || now));
        frames
    }

    #[test]
    fn counts_frames_without_content_for_every_split() {
        let now = Instant::now();
        for (kind, flags, payload, each) in
            [(PING, 0, 8, 1), (4, 0, 0, 1), (4, 1, 0, 1), (2, 0, 5, 1), (3, 0, 4, 1), (9, 0, 1, 1), (0xfe, 0, 600, 3)]
        {
            for size in [1, 2, 9, 10, 4096] {
                let frame = frame(kind, flags, payload);
                assert_eq!(
                    count(&mut after_preface(now), &frame, 2 * BURST, size, now),
                    BURST / each,
                    "{kind} by {size}"
                );
            }
        }
        for flags in [0, PADDED] {
            assert_eq!(count(&mut after_preface(now), &frame(DATA, flags, 0), 2 * BURST, 9, now), BURST);
        }
        assert_eq!(count(&mut after_preface(now), &frame(DATA, PADDED, 256), 2 * BURST, 999, now), BURST);
    }

    #[test]
    fn content_and_requests_are_not_counted() {
        let now = Instant::now();
        for frame in [frame(DATA, 0, 1), frame(DATA, PADDED, 257), frame(DATA, END_STREAM, 0), frame(HEADERS, 4, 30)] {
            assert_eq!(count(&mut after_preface(now), &frame, 3 * BURST, 7, now), 3 * BURST);
        }
    }

    #[test]
    fn frames_needed_for_requests_and_responses_are_within_the_limit() {
        let now = Instant::now();
        let mut frames = after_preface(now);
        for _ in 0..10 * BURST {
            assert!(frames.follow(&frame(HEADERS, 5, 30), || now));
            assert_eq!(count(&mut frames, &frame(WINDOW_UPDATE, 0, 4), PER_REQUEST, 5, now), PER_REQUEST);
        }
        for _ in 0..10 * BURST {
            frames.write(BYTES_PER_FRAME / 2);
            frames.write(BYTES_PER_FRAME / 2);
            assert_eq!(count(&mut frames, &frame(WINDOW_UPDATE, 0, 4), 1, 5, now), 1);
        }
        // Unused credit is capped at one burst.
        frames.write(2 * BYTES_PER_FRAME * usize::try_from(BURST).unwrap());
        assert_eq!(count(&mut frames, &frame(PING, 0, 8), 2 * BURST, 17, now), BURST);
    }

    #[test]
    fn the_limit_refills_over_time() {
        let now = Instant::now();
        let mut frames = after_preface(now);
        let ping = frame(PING, 0, 8);
        assert_eq!(count(&mut frames, &ping, 2 * BURST, 17, now), BURST);
        let mut frames = after_preface(now);
        assert_eq!(count(&mut frames, &ping, BURST, 17, now), BURST);
        for second in 1..=10 {
            assert_eq!(count(&mut frames, &ping, 200, 17, now + Duration::from_secs(second)), 200);
        }
        assert_eq!(count(&mut frames, &ping, 1, 17, now + Duration::from_secs(10)), 0);
    }
}
