//! Numbers and durations within their ranges.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;

use super::Source;
use crate::mismatch::mismatch;
use crate::value::Seconds;

impl Source {
    /// The whole number `key` within `range`, or `default`.
    pub fn number(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.whole(key, default, &range, "a whole number")
    }

    /// The duration `key` in whole seconds within `range`, or `default`.
    pub fn whole_seconds(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.whole(key, default, &range, "a whole number of seconds")
    }

    fn whole(&mut self, key: &str, default: u64, range: &RangeInclusive<u64>, what: &str) -> u64 {
        let expected = format!("{what} from {} to {}", range.start(), range.end());
        let before = self.problems.len();
        match self.get_as::<i64>(key, Some(&expected)) {
            Some(value) => match u64::try_from(value).ok().filter(|value| range.contains(value)) {
                Some(value) => return value,
                None => self.problem(key, mismatch(&expected, &Value::Integer(value))),
            },
            None if self.problems.len() == before => self.values.record_default(key, default.to_string()),
            None => {}
        }
        default
    }

    /// The duration `key` in seconds, fractions allowed, within `range`, or `default`.
    pub fn seconds(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> Duration {
        let expected = format!("a number of seconds from {} to {}", range.start(), range.end());
        let Seconds(value) = self.get_as(key, Some(&expected)).unwrap_or_else(|| {
            self.values.record_default(key, default.to_string());
            Seconds(default)
        });
        let value = if range.contains(&value) {
            value
        } else {
            self.problem(key, mismatch(&expected, &Value::Float(value)));
            default
        };
        Duration::from_secs_f64(value)
    }
}
