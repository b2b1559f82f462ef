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

/// How long a gateway may send a `start`, in seconds: later it is no longer the moment. Clients ignore the field.
const START_MAX_AGE: u32 = 15;

/// An event whose data is one line of JSON.
pub(super) fn block(name: &str, id: StateId, data: &[u8]) -> Bytes {
    let max_age = if name == "start" { format!("max-age: {START_MAX_AGE}\n") } else { String::new() };
    let head = format!("event: {name}\nid: {id}\n{max_age}data: ");
    [head.as_bytes(), data, b"\n\n"].concat().into()
}
