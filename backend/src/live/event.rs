//! Events in the format of server-sent events (WHATWG HTML, section 9.2.6).

use bytes::Bytes;

use super::state::StateId;

/// The time after which a client reconnects, in milliseconds.
const RETRY: u32 = 2000;

/// The first block of each stream. It has no event.
pub(super) fn opening() -> Bytes {
    Bytes::from(format!("retry: {RETRY}\n\n"))
}

/// A comment, which shows that the connection works.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// An event whose data is one line of JSON.
pub(super) fn block(name: &str, id: StateId, data: &[u8]) -> Bytes {
    let head = format!("event: {name}\nid: {id}\ndata: ");
    [head.as_bytes(), data, b"\n\n"].concat().into()
}
