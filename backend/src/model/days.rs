//! A bounded set of days, or all days.

use std::collections::BTreeSet;

use super::Day;

/// The maximum number of days in the set; one more makes it all days.
pub const DAYS_LIMIT: usize = 256;

/// Days that may have changed, in bounded memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Days {
    /// These days, at most [`DAYS_LIMIT`]; possibly none.
    Named(BTreeSet<Day>),
    /// Any day.
    All,
}

impl Default for Days {
    /// No days.
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Days {
    /// Whether there are no days.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Named(days) if days.is_empty())
    }

    /// Adds a day.
    pub fn insert(&mut self, day: Day) {
        if let Self::Named(days) = self {
            days.insert(day);
            if days.len() > DAYS_LIMIT {
                *self = Self::All;
            }
        }
    }

    /// Adds all days of `other`.
    pub fn extend(&mut self, other: Self) {
        match other {
            Self::Named(days) => days.into_iter().for_each(|day| self.insert(day)),
            Self::All => *self = Self::All,
        }
    }
}

impl FromIterator<Day> for Days {
    fn from_iter<I: IntoIterator<Item = Day>>(days: I) -> Self {
        let mut all = Self::default();
        days.into_iter().for_each(|day| all.insert(day));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `count` days from the year 2000 on, in months of 28 days.
    fn first(count: usize) -> impl Iterator<Item = Day> {
        let text = |n| format!("{:04}{:02}{:02}", 2000 + n / 336, n / 28 % 12 + 1, n % 28 + 1);
        (0..count).map(move |n| Day::parse(&text(n)).unwrap())
    }

    #[test]
    fn more_days_than_the_limit_become_all() {
        let mut days: Days = first(DAYS_LIMIT).chain(first(DAYS_LIMIT)).collect();
        assert!(matches!(&days, Days::Named(named) if named.len() == DAYS_LIMIT));
        days.extend(first(DAYS_LIMIT).collect());
        assert_ne!(days, Days::All, "each is in the set already");
        days.insert(Day::parse("20201209").unwrap());
        assert_eq!(days, Days::All);
        days.insert(Day::parse("20201209").unwrap());
        days.extend(Days::default());
        assert_eq!(days, Days::All);
    }

    #[test]
    fn all_days_absorb_others() {
        let mut days: Days = first(1).collect();
        assert!(!days.is_empty() && Days::default().is_empty() && !Days::All.is_empty());
        days.extend(Days::All);
        assert_eq!(days, Days::All);
    }
}
