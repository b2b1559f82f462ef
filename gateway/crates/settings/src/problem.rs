//! What is wrong with a configuration.

use std::fmt;

/// One thing that is wrong, told by key. It never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the environment variable, that has to be mended.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Everything that is wrong with a configuration, told together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `result`, with what was `found` before it told as well.
    ///
    /// # Errors
    /// Where anything was found before, or `result` is an error.
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
        writeln!(f, "the configuration has {} problem(s):", self.0.len())?;
        for Problem { key, reason } in &self.0 {
            writeln!(f, "  {key}: {reason}")?;
        }
        Ok(())
    }
}
