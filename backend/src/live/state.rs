//! The entries of a stream and how they change. Nothing here reads the clock or the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Serialize;

use crate::model::{Day, Entry as Shown, Holodule, Streamers};

/// Memory that an entry takes besides its JSON, in bytes.
const ENTRY_OVERHEAD: usize = 256;

/// Identifies the content of a state: equal contents have equal ids, in any process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StateId(u128);

impl StateId {
    /// Parses the form that is displayed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// An entry as it was read from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    id: String,
    day: Day,
    /// The stored `datetime`, by which entries are sorted.
    datetime: String,
    /// The data of an `upsert`.
    json: Bytes,
    /// When it starts, in seconds since the Unix epoch.
    starts_at: Option<i64>,
    /// The `starts_at` of the data.
    starts_at_text: Option<String>,
    has_started: bool,
}

/// The data of an `upsert`, and a member of a `snapshot`.
#[derive(Serialize)]
struct Upsert<'a> {
    id: &'a str,
    holodule: &'a Shown<'a>,
}

#[derive(Serialize)]
struct Delete<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Start<'a> {
    id: &'a str,
    starts_at: Option<&'a str>,
}

impl Entry {
    /// The entry of `holodule` at `now`; `None` if it is on no day. Its identifier is the video, or else the key, or else
    /// time and name.
    pub(super) fn new(holodule: &Holodule, streamers: &Streamers, now: i64) -> Option<Self> {
        let datetime = holodule.datetime.as_deref()?;
        let day = Day::holding(datetime)?;
        let texts = [&holodule.video_id, &holodule.key];
        let id = match texts.into_iter().flatten().find(|text| !text.is_empty()) {
            Some(id) => id.clone(),
            None => format!("{datetime} {}", holodule.name.as_deref().unwrap_or_default()),
        };
        let shown = Shown::of(holodule, streamers);
        let json = serde_json::to_vec(&Upsert { id: &id, holodule: &shown }).ok()?.into();
        let starts = holodule.starts_at();
        let starts_at = starts.map(|time| time.unix());
        let has_started = starts_at.is_some_and(|second| second <= now);
        let starts_at_text = starts.map(|time| time.rfc3339());
        Some(Self { id, day, datetime: datetime.to_owned(), json, starts_at, starts_at_text, has_started })
    }

    fn hash(&self) -> u128 {
        let content = [self.json.as_ref(), &[u8::from(self.has_started)]].concat();
        let hash = digest(&SHA256, &content);
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        u128::from_be_bytes(first)
    }

    fn bytes(&self) -> usize {
        self.json.len() + self.id.len() + ENTRY_OVERHEAD
    }
}

/// A change of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// `upsert`, `delete` or `start`.
    pub(super) name: &'static str,
    /// The state after the change.
    pub(super) id: StateId,
    /// JSON.
    pub(super) data: Bytes,
}

/// The entries of a stream. Of several with the same identifier, the one on the latest day is shown.
#[derive(Debug, Default)]
pub(super) struct State {
    days: BTreeMap<Day, BTreeMap<String, Entry>>,
    /// The day of the entry that is shown, by identifier.
    shown: BTreeMap<String, Day>,
    /// The sum of the hashes of the entries that are shown.
    id: StateId,
    bytes: usize,
}

impl State {
    pub(super) fn id(&self) -> StateId {
        self.id
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.days.values().map(BTreeMap::len).sum()
    }

    /// The memory that the entries take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces the entries of `days`, and removes those that are not `within`.
    pub(super) fn replace(
        &mut self,
        days: &BTreeSet<Day>,
        within: &RangeInclusive<Day>,
        entries: Vec<Entry>,
    ) -> Vec<Change> {
        let mut affected = BTreeMap::new();
        let removed: Vec<Day> =
            self.days.keys().filter(|day| days.contains(day) || !within.contains(day)).copied().collect();
        let mut before: BTreeMap<String, Entry> = BTreeMap::new();
        for day in removed {
            for (id, entry) in self.days.remove(&day).unwrap_or_default() {
                self.bytes -= entry.bytes();
                if self.shown.get(&id) == Some(&day) {
                    before.insert(id.clone(), entry.clone());
                }
                affected.insert(id, ());
            }
        }
        for mut entry in entries {
            if !days.contains(&entry.day) || !within.contains(&entry.day) {
                continue;
            }
            let former = before.get(&entry.id).or_else(|| self.shown(&entry.id));
            if let Some(former) = former.filter(|former| former.starts_at == entry.starts_at) {
                // Its start is still to be published.
                entry.has_started = former.has_started;
            }
            if !before.contains_key(&entry.id)
                && let Some(former) = self.shown(&entry.id)
            {
                before.insert(entry.id.clone(), former.clone());
            }
            affected.insert(entry.id.clone(), ());
            self.bytes += entry.bytes();
            let replaced = self.days.entry(entry.day).or_default().insert(entry.id.clone(), entry);
            self.bytes -= replaced.map_or(0, |replaced| replaced.bytes());
        }
        affected.into_keys().filter_map(|id| self.show(&id, before.get(&id))).collect()
    }

    /// Shows the latest entry with the identifier `id`, where `before` was shown.
    fn show(&mut self, id: &str, before: Option<&Entry>) -> Option<Change> {
        let day = self.days.iter().rev().find(|(_, entries)| entries.contains_key(id)).map(|(day, _)| *day);
        let now = match day {
            Some(day) => {
                self.shown.insert(id.to_owned(), day);
                self.shown(id)
            }
            None => {
                self.shown.remove(id);
                None
            }
        };
        let (old, new) = (before.map_or(0, Entry::hash), now.map_or(0, Entry::hash));
        if old == new {
            return None;
        }
        let (name, data) = match now {
            Some(entry) => ("upsert", entry.json.clone()),
            None => ("delete", serde_json::to_vec(&Delete { id }).unwrap_or_default().into()),
        };
        self.id = StateId(self.id.0.wrapping_sub(old).wrapping_add(new));
        Some(Change { name, id: self.id, data })
    }

    fn shown(&self, id: &str) -> Option<&Entry> {
        self.days.get(self.shown.get(id)?)?.get(id)
    }

    fn all_shown(&self) -> impl Iterator<Item = &Entry> {
        self.shown.iter().filter_map(|(id, day)| self.days.get(day)?.get(id))
    }

    /// When the next entry starts, in seconds since the Unix epoch.
    pub(super) fn next_start(&self) -> Option<i64> {
        self.all_shown().filter(|entry| !entry.has_started).filter_map(|entry| entry.starts_at).min()
    }

    /// Starts the entries that are due at `now`.
    pub(super) fn start(&mut self, now: i64) -> Vec<Change> {
        let is_due = |entry: &&Entry| !entry.has_started && entry.starts_at.is_some_and(|second| second <= now);
        let mut due: Vec<_> =
            self.all_shown().filter(is_due).map(|entry| (entry.starts_at, entry.id.clone(), entry.day)).collect();
        due.sort();
        let mut changes = Vec::new();
        for (_, id, day) in due {
            let Some(entry) = self.days.get_mut(&day).and_then(|day| day.get_mut(&id)) else { continue };
            let before = entry.hash();
            entry.has_started = true;
            self.id = StateId(self.id.0.wrapping_sub(before).wrapping_add(entry.hash()));
            let data = serde_json::to_vec(&Start { id: &id, starts_at: entry.starts_at_text.as_deref() });
            changes.push(Change { name: "start", id: self.id, data: data.unwrap_or_default().into() });
        }
        changes
    }

    /// The data of a `snapshot`: all entries by time.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut entries: Vec<&Entry> = self.all_shown().collect();
        entries.sort_by(|a, b| (&a.datetime, &a.id).cmp(&(&b.datetime, &b.id)));
        let mut data = Vec::with_capacity(self.bytes);
        data.extend_from_slice(b"{\"entries\":[");
        for (position, entry) in entries.into_iter().enumerate() {
            if position > 0 {
                data.push(b',');
            }
            data.extend_from_slice(&entry.json);
        }
        data.extend_from_slice(b"]}");
        data
    }
}

#[cfg(test)]
mod tests;
