//! Several days, or all of them.

use std::collections::BTreeSet;

use super::Day;

/// Days that are named one by one, at most: one more, and it is all of them.
pub const DAYS_LIMIT: usize = 256;

/// Days whose answers may have changed. Of bounded size, whatever is put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Days {
    /// These, at most [`DAYS_LIMIT`] of them. They may be none.
    Named(BTreeSet<Day>),
    /// Any may have.
    All,
}

impl Default for Days {
    /// None.
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Days {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Named(days) if days.is_empty())
    }

    /// Puts one in.
    pub fn insert(&mut self, day: Day) {
        if let Self::Named(days) = self {
            days.insert(day);
            if days.len() > DAYS_LIMIT {
                *self = Self::All;
            }
        }
    }

    /// Puts all of `other` in.
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

    /// The first so many days from the year 2000 on, in months of 28.
    fn first(count: usize) -> impl Iterator<Item = Day> {
        let text = |n| format!("{:04}{:02}{:02}", 2000 + n / 336, n / 28 % 12 + 1, n % 28 + 1);
        (0..count).map(move |n| Day::parse(&text(n)).unwrap())
    }

    #[test]
    fn more_than_the_limit_are_all() {
        let mut days: Days = first(DAYS_LIMIT).chain(first(DAYS_LIMIT)).collect();
        assert!(matches!(&days, Days::Named(named) if named.len() == DAYS_LIMIT));
        days.extend(first(DAYS_LIMIT).collect());
        assert_ne!(days, Days::All, "each of them is there already");
        days.insert(Day::parse("20201209").unwrap());
        assert_eq!(days, Days::All);
        days.insert(Day::parse("20201209").unwrap());
        days.extend(Days::default());
        assert_eq!(days, Days::All);
    }

    #[test]
    fn all_and_some_are_all() {
        let mut days: Days = first(1).collect();
        assert!(!days.is_empty() && Days::default().is_empty() && !Days::All.is_empty());
        days.extend(Days::All);
        assert_eq!(days, Days::All);
    }
}
