//! Problems of a configuration.

use std::fmt;
use std::path::Path;

use crate::counted::counted;
use crate::echo::shown_path;
use crate::values::Origin;

/// A problem of one key. It never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key or file with the problem.
    pub key: String,
    /// The origin of the value, if it is not the configuration file.
    pub origin: Option<Origin>,
    /// The description.
    pub reason: String,
}

impl Problem {
    /// A problem of the file at `path` as a whole.
    pub(crate) fn of_file(path: &Path, reason: impl Into<String>) -> Self {
        Self { key: shown_path(path), origin: None, reason: reason.into() }
    }

    /// The key with its origin, as in `https_addr, from HTTPS_ADDR`.
    pub fn subject(&self) -> String {
        match &self.origin {
            Some(origin) => format!("{}, {origin}", self.key),
            None => self.key.clone(),
        }
    }
}

/// All problems of a configuration, reported together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds the problems `found` earlier to `result`.
    ///
    /// # Errors
    /// If `found` is not empty, or `result` is an error.
    pub fn join<T>(mut found: Vec<Problem>, result: Result<T, Self>) -> Result<T, Self> {
        match result {
            Ok(value) if found.is_empty() => Ok(value),
            Ok(_) => Err(Self(found)),
            Err(Self(more)) => {
                found.extend(more);
                Err(Self(found))
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {}:", counted(self.0.len() as u64, "problem"))?;
        for problem in &self.0 {
            writeln!(f, "  {}: {}", problem.subject(), problem.reason)?;
        }
        Ok(())
    }
}
