#![no_main]

#[path = "../../../gateway/tests/it/fuzz/http2.rs"]
mod http2;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| http2::check(data));

/// The head of a frame, in bytes.
const HEAD: usize = 9;

// Most changes of single bytes break the framing and with it the connection: three of four are changes of whole frames,
// or within one.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut frames = split(&data[..size]);
    let count = frames.len();
    if seed % 4 == 0 || count == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let seed = (seed / 4) as usize;
    let (one, other) = (seed / 8 % count, seed / 64 % count);
    match seed % 8 {
        0 => drop(frames.remove(one)),
        1 => frames.swap(one, other),
        2 => frames.insert(one, frames[other].clone()),
        // Type, flags or stream.
        3 | 4 if frames[one].len() >= HEAD => {
            let at = 3 + seed / 512 % 6;
            let bits = if at == 3 || at == 8 { seed / 4096 % 12 } else { 1 << (seed / 4096 % 8) };
            frames[one][at] ^= bits as u8;
        }
        _ => change_payload(&mut frames[one], max_size - size),
    }
    let changed = frames.concat();
    let size = changed.len().min(max_size);
    data[..size].copy_from_slice(&changed[..size]);
    size
});

fn split(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        let length =
            data.get(..3).map_or(0, |length| u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize);
        let (frame, rest) = data.split_at((HEAD + length).min(data.len()));
        frames.push(frame.to_vec());
        data = rest;
    }
    frames
}

/// Changes the payload and sets the length that it has then.
fn change_payload(frame: &mut Vec<u8>, room: usize) {
    let size = frame.len();
    let most = (size + room.min(256)).saturating_sub(HEAD);
    if size < HEAD || most == 0 {
        return;
    }
    frame.resize(HEAD + most, 0);
    let length = fuzzer_mutate(&mut frame[HEAD..], size - HEAD, most);
    frame.truncate(HEAD + length);
    frame[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
}
