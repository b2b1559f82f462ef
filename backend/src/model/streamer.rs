//! Streamers and their groups.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::holodule::Holodule;
use super::identifier::{Code, Invalid, LineBreaks, text};

/// The longest text of a streamer, in bytes of UTF-8.
const TEXT_LIMIT: usize = 512;
/// The maximum number of affiliations.
const AFFILIATIONS_LIMIT: usize = 100;

/// A streamer. On MongoDB it is a document of the collection `streamers`; in documents of other programs, any field may
/// be missing. A missing code is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Streamer {
    /// The id in the store, as text.
    pub id: String,
    /// The code, such as `HL0503`.
    pub code: String,
    /// The name.
    #[schema(required)]
    pub name: Option<String>,
    /// The group, such as `hololive`.
    #[schema(required)]
    pub group: Option<String>,
    /// Further affiliations.
    #[serde(default)]
    #[schema(required)]
    pub affiliations: Vec<String>,
    /// The name of an image.
    #[schema(required)]
    pub image_name: Option<String>,
    /// The id of the channel at YouTube.
    #[schema(required)]
    pub channel_id: Option<String>,
    /// Whether the streamer is retired.
    #[schema(required)]
    pub is_retired: Option<bool>,
}

/// Checks a streamer that is to be stored: `code` is a [`Code`], no text is longer than 512 bytes or has control
/// characters, and there are at most 100 affiliations.
///
/// # Errors
/// The first violated rule, in the order of the fields.
pub fn check_streamer(streamer: &Streamer) -> Result<(), Invalid> {
    let check = |field, value: Option<&str>| text(field, value, TEXT_LIMIT, LineBreaks::Forbidden);
    Code::parse(&streamer.code)?;
    check("name", streamer.name.as_deref())?;
    check("group", streamer.group.as_deref())?;
    if streamer.affiliations.len() > AFFILIATIONS_LIMIT {
        return Err(Invalid::new("affiliations", format!("must not be more than {AFFILIATIONS_LIMIT}")));
    }
    streamer.affiliations.iter().try_for_each(|name| check("affiliations", Some(name)))?;
    check("image_name", streamer.image_name.as_deref())?;
    check("channel_id", streamer.channel_id.as_deref())
}

/// All streamers, by code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streamers {
    by_code: BTreeMap<String, Streamer>,
    /// Those without a code, and those with the code of another one.
    others: Vec<Streamer>,
}

impl Streamers {
    /// All stored streamers in ascending order of their codes, also those without a code, which come first, and those
    /// whose code another one has.
    pub fn stored(&self) -> Vec<&Streamer> {
        let mut all: Vec<&Streamer> = self.iter().chain(&self.others).collect();
        all.sort_by(|a, b| a.code.cmp(&b.code));
        all
    }

    /// The streamers with a code, each code once, in ascending order of their codes.
    pub fn iter(&self) -> impl Iterator<Item = &Streamer> {
        self.by_code.values()
    }

    /// Whether there are none with a code.
    pub fn is_empty(&self) -> bool {
        self.by_code.is_empty()
    }

    /// The streamer with this code.
    pub fn get(&self, code: &str) -> Option<&Streamer> {
        self.by_code.get(code)
    }

    /// The streamer of a holodule, by [`Holodule::effective_code`].
    pub fn of(&self, holodule: &Holodule) -> Option<&Streamer> {
        self.get(holodule.effective_code()?)
    }

    /// The names of all groups.
    pub fn groups(&self) -> BTreeSet<&str> {
        self.iter().filter_map(|streamer| streamer.group.as_deref()).collect()
    }

    /// The codes of the streamers of a group.
    pub fn codes_of(&self, group: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |streamer| streamer.group.as_deref() == Some(group)).map(|s| s.code.as_str())
    }
}

impl FromIterator<Streamer> for Streamers {
    /// The first of several streamers with the same code is the one that [`Streamers::get`] returns.
    fn from_iter<I: IntoIterator<Item = Streamer>>(streamers: I) -> Self {
        let mut all = Self::default();
        for streamer in streamers {
            if streamer.code.is_empty() || all.by_code.contains_key(&streamer.code) {
                all.others.push(streamer);
            } else {
                all.by_code.insert(streamer.code.clone(), streamer);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamer(code: &str, group: Option<&str>) -> Streamer {
        Streamer { code: code.into(), group: group.map(Into::into), ..Streamer::default() }
    }

    #[test]
    fn streamers_are_found_by_code_and_group() {
        let all: Streamers = [streamer("HL0502", Some("a")), streamer("HL0501", None), streamer("HL0503", Some("a"))]
            .into_iter()
            .collect();
        assert_eq!(all.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(), ["HL0501", "HL0502", "HL0503"]);
        assert_eq!(all.codes_of("a").collect::<Vec<_>>(), ["HL0502", "HL0503"]);
        assert_eq!(all.groups(), BTreeSet::from(["a"]));
        let holodule = Holodule { key: Some("HL0502_20201209_230000".into()), ..Holodule::default() };
        assert_eq!(all.of(&holodule).map(|s| s.code.as_str()), Some("HL0502"));
        assert_eq!(all.of(&Holodule::default()), None);
    }

    #[test]
    fn streamers_without_a_code_of_their_own_are_only_listed() {
        let named = |code: &str, name: &str| Streamer { name: Some(name.into()), ..streamer(code, Some("a")) };
        let all: Streamers =
            [named("HL0502", "x"), named("", "y"), named("HL0502", "z"), named("HL0501", "w")].into_iter().collect();
        let names = |streamers: &[&Streamer]| -> Vec<String> {
            streamers.iter().filter_map(|streamer| streamer.name.clone()).collect()
        };
        assert_eq!(names(&all.stored()), ["y", "w", "x", "z"]);
        assert_eq!(names(&all.iter().collect::<Vec<_>>()), ["w", "x"]);
        assert_eq!(all.get(""), None);
        assert_eq!(all.codes_of("a").collect::<Vec<_>>(), ["HL0501", "HL0502"]);
    }

    #[test]
    fn a_streamer_is_checked_before_it_is_stored() {
        let good = streamer("HL0502", Some("a"));
        assert_eq!(check_streamer(&good), Ok(()));
        let long = "x".repeat(TEXT_LIMIT + 1);
        for (bad, field) in [
            (Streamer { code: "x".into(), ..good.clone() }, "code"),
            (Streamer { name: Some("a\nb".into()), ..good.clone() }, "name"),
            (Streamer { group: Some(long.clone()), ..good.clone() }, "group"),
            (Streamer { affiliations: vec![long], ..good.clone() }, "affiliations"),
            (Streamer { affiliations: vec![String::new(); AFFILIATIONS_LIMIT + 1], ..good.clone() }, "affiliations"),
            (Streamer { channel_id: Some("\0".into()), ..good }, "channel_id"),
        ] {
            assert_eq!(check_streamer(&bad).unwrap_err().field, field);
        }
    }
}
