//! Tests of the state.

use serde_json::json;

use super::*;

const BEFORE: i64 = 0;

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn holodule(id: &str, datetime: &str, title: &str) -> Holodule {
    Holodule {
        video_id: Some(id.to_owned()),
        datetime: Some(datetime.to_owned()),
        title: Some(title.to_owned()),
        ..Holodule::default()
    }
}

fn entry(id: &str, datetime: &str, title: &str) -> Entry {
    Entry::new(&holodule(id, datetime, title), &Streamers::default(), BEFORE).unwrap()
}

fn december() -> RangeInclusive<Day> {
    day("20201201")..=day("20201231")
}

/// Replaces the entries of `days`, and returns the names of the changes with their identifiers.
fn replace(state: &mut State, days: &[&str], entries: &[Entry]) -> Vec<(String, String)> {
    let days = days.iter().map(|text| day(text)).collect();
    names(&state.replace(&days, &december(), entries.to_vec()))
}

fn names(changes: &[Change]) -> Vec<(String, String)> {
    let id = |change: &Change| {
        let data: serde_json::Value = serde_json::from_slice(&change.data).unwrap();
        data["id"].as_str().unwrap().to_owned()
    };
    changes.iter().map(|change| (change.name.to_owned(), id(change))).collect()
}

fn change(name: &str, id: &str) -> (String, String) {
    (name.to_owned(), id.to_owned())
}

#[test]
fn only_differences_are_changes() {
    let mut state = State::default();
    let empty = state.id();
    let (a, b) = (entry("a", "20201209 230000", "t"), entry("b", "20201210 100000", "t"));
    let first = replace(&mut state, &["20201209", "20201210"], &[a.clone(), b.clone()]);
    assert_eq!(first, [change("upsert", "a"), change("upsert", "b")]);
    let both = state.id();
    assert_eq!(replace(&mut state, &["20201209"], std::slice::from_ref(&a)), []);
    let other = entry("a", "20201209 230000", "other");
    assert_eq!(replace(&mut state, &["20201209"], &[other]), [change("upsert", "a")]);
    assert_ne!(state.id(), both);
    assert_eq!(replace(&mut state, &["20201209"], &[a]), [change("upsert", "a")]);
    assert_eq!(state.id(), both, "the content is the same");
    assert_eq!(replace(&mut state, &["20201209"], &[]), [change("delete", "a")]);
    assert_eq!(replace(&mut state, &["20201210"], &[]), [change("delete", "b")]);
    assert_eq!((state.id(), state.len(), state.bytes(), state.shown.len()), (empty, 0, 0, 0));
}

#[test]
fn a_moved_entry_is_one_upsert_in_whichever_order_its_days_are_read() {
    for days in [["20201209", "20201211"], ["20201211", "20201209"]] {
        for to in ["20201209", "20201211"] {
            let from = if to == "20201209" { "20201211" } else { "20201209" };
            let mut state = State::default();
            replace(&mut state, &[from], &[entry("a", &format!("{from} 100000"), "t")]);
            let moved = entry("a", &format!("{to} 100000"), "t");
            let mut changes = Vec::new();
            for read in days {
                let entries = if read == to { vec![moved.clone()] } else { Vec::new() };
                changes.extend(replace(&mut state, &[read], &entries));
            }
            assert_eq!(changes.last(), Some(&change("upsert", "a")), "{days:?} {to}");
            assert!(changes.len() <= 2 && state.shown("a") == Some(&moved), "{changes:?}");
        }
    }
}

#[test]
fn of_entries_with_one_identifier_the_latest_is_shown() {
    let mut state = State::default();
    let (early, late) = (entry("a", "20201209 100000", "early"), entry("a", "20201210 100000", "late"));
    replace(&mut state, &["20201210"], std::slice::from_ref(&late));
    let id = state.id();
    assert_eq!(replace(&mut state, &["20201209"], std::slice::from_ref(&early)), []);
    assert_eq!((state.id(), state.len()), (id, 2));
    assert_eq!(replace(&mut state, &["20201210"], &[]), [change("upsert", "a")]);
    assert_eq!(state.shown("a"), Some(&early));
}

#[test]
fn the_identifier_is_the_video_or_the_key_or_time_and_name() {
    let id = |video: Option<&str>, key: Option<&str>| {
        let holodule = Holodule {
            video_id: video.map(Into::into),
            key: key.map(Into::into),
            name: Some("n".into()),
            ..holodule("", "20201209 230000", "t")
        };
        Entry::new(&holodule, &Streamers::default(), BEFORE).unwrap().id
    };
    assert_eq!(id(Some("video"), Some("key")), "video");
    assert_eq!(id(Some(""), Some("key")), "key");
    assert_eq!(id(None, Some("")), "20201209 230000 n");
    assert!(Entry::new(&holodule("a", "soon", "t"), &Streamers::default(), BEFORE).is_none());
}

#[test]
fn streams_start_once_in_their_order() {
    let start = |text: &str| crate::model::WallClock::parse(text).unwrap().unix();
    let mut state = State::default();
    let entries = [entry("b", "20201209 100000", "t"), entry("a", "20201209 110000", "t")];
    replace(&mut state, &["20201209"], &entries);
    assert_eq!(state.next_start(), Some(start("20201209 100000")));
    assert_eq!(state.start(start("20201209 095959")), []);
    let before = state.id();
    let changes = state.start(start("20201209 120000"));
    assert_eq!(names(&changes), [change("start", "b"), change("start", "a")]);
    assert_eq!(changes[0].data, r#"{"id":"b","starts_at":"2020-12-09T10:00:00+09:00"}"#);
    assert!(before != state.id() && changes.last().unwrap().id == state.id());
    assert_eq!((state.next_start(), state.start(i64::MAX)), (None, Vec::new()));
    // Read again: it has started. With another time, it starts again.
    assert_eq!(replace(&mut state, &["20201209"], &entries), []);
    replace(&mut state, &["20201209"], &[entry("b", "20201209 130000", "t")]);
    assert_eq!(names(&state.start(i64::MAX)), [change("start", "b")]);
}

#[test]
fn an_entry_that_is_read_after_its_start_has_started() {
    let late = Entry::new(&holodule("a", "20201209 230000", "t"), &Streamers::default(), i64::MAX).unwrap();
    let mut state = State::default();
    replace(&mut state, &["20201209"], std::slice::from_ref(&late));
    assert_eq!(state.next_start(), None);
    // One whose start is due is not started by being read again.
    let mut state = State::default();
    replace(&mut state, &["20201209"], &[entry("a", "20201209 230000", "t")]);
    replace(&mut state, &["20201209"], &[late]);
    assert_eq!(names(&state.start(i64::MAX)), [change("start", "a")]);
}

#[test]
fn days_outside_of_the_window_are_removed() {
    let mut state = State::default();
    let entries = [entry("a", "20201209 100000", "t"), entry("b", "20201210 100000", "t")];
    replace(&mut state, &["20201209", "20201210"], &entries);
    let changes = state.replace(&BTreeSet::new(), &(day("20201210")..=day("20201216")), Vec::new());
    assert_eq!(names(&changes), [change("delete", "a")]);
    let outside = state.replace(&[day("20201209")].into(), &(day("20201210")..=day("20201216")), entries.to_vec());
    assert_eq!(outside, []);
}

#[test]
fn a_snapshot_has_the_entries_by_time() {
    let mut state = State::default();
    assert_eq!(state.snapshot(), br#"{"entries":[]}"#);
    let entries = [entry("a", "20201209 110000", "t"), entry("b", "20201209 100000", "t")];
    replace(&mut state, &["20201209"], &entries);
    let snapshot: serde_json::Value = serde_json::from_slice(&state.snapshot()).unwrap();
    let ids: Vec<_> = snapshot["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(ids, ["b", "a"].map(|id| json!(id)));
    assert_eq!(snapshot["entries"][0]["holodule"]["starts_at"], "2020-12-09T10:00:00+09:00");
}

#[test]
fn an_id_has_32_digits() {
    let mut state = State::default();
    replace(&mut state, &["20201209"], &[entry("a", "20201209 110000", "t")]);
    let text = state.id().to_string();
    assert_eq!((text.len(), StateId::parse(&text)), (32, Some(state.id())));
    for bad in ["", "0", &text[1..], &text.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"), &"+".repeat(32)] {
        assert_eq!(StateId::parse(bad), None, "{bad}");
    }
}
