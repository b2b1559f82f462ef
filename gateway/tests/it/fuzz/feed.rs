//! Lines of the backend's feed. The events are the same in whatever pieces the lines arrive, and are those that
//! serde_json parses.

use holodule_gateway::revocation::feed::{FeedDecoder, FeedEvent, InvalidFeed};
use serde_json::Value;

/// Checks the lines of `data`.
pub fn check(data: &[u8]) {
    let outcome = take(&[data]);
    let size = 1 + data.len() / 256;
    assert_eq!(take(&data.chunks(size).collect::<Vec<_>>()), outcome, "by {size}");
    for at in (1..data.len()).step_by(1 + data.len() / 16) {
        let (first, second) = data.split_at(at);
        assert_eq!(take(&[first, second]), outcome, "split at {at}");
    }
    let mut lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    // Bytes after the last line feed are not a line yet.
    lines.pop();
    let read: Vec<_> = lines.iter().map(|line| serde_json::from_slice::<Value>(line).ok()).collect();
    match outcome {
        Ok(events) => {
            assert_eq!(events.len(), lines.len());
            for (event, value) in events.iter().zip(read) {
                check_event(event, &value.expect("a line is JSON"));
            }
        }
        Err(InvalidFeed) => {
            let is_plain = |value: &Option<Value>| value.as_ref().is_some_and(|value| value == &serde_json::json!({}));
            assert!(data.len() > 64 * 1024 || !read.iter().all(is_plain), "only long or invalid input is refused");
        }
    }
}

fn take(pieces: &[&[u8]]) -> Result<Vec<FeedEvent>, InvalidFeed> {
    let mut decoder = FeedDecoder::default();
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(decoder.decode(piece)?);
    }
    Ok(events)
}

/// An event has the content of its line. An unknown line is a reset.
fn check_event(event: &FeedEvent, value: &Value) {
    let members = value.as_object().expect("a line is an object");
    let only = members.iter().next().filter(|_| members.len() == 1);
    let expected = match only.map(|(name, value)| (name.as_str(), value)) {
        Some(("feed", Value::String(id))) => FeedEvent::Start(id.clone()),
        Some(("beat", Value::Number(_))) => FeedEvent::Beat,
        Some(("identity", Value::String(identity))) => FeedEvent::AccountChanged(identity.clone()),
        Some(("purge", Value::String(path))) => FeedEvent::Purge(path.clone()),
        Some(("purge_all", Value::Bool(true))) => FeedEvent::PurgeAll,
        _ => FeedEvent::Reset,
    };
    assert_eq!(*event, expected);
}
