//! Checks that several options share.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::OptionError;

/// `value`, where it lies in `range`.
pub(super) fn within<T: PartialOrd + Display>(
    option: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, OptionError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let problem = format!("write a number from {} to {}", range.start(), range.end());
    Err(OptionError::invalid(option, &value, problem))
}

/// Drops values that stand there a second time, with a note: the repetitions of one point have an option of their own.
pub(super) fn distinct<T: PartialEq + Display>(option: &'static str, values: &mut Vec<T>, notes: &mut Vec<String>) {
    let mut kept: Vec<T> = Vec::with_capacity(values.len());
    for value in values.drain(..) {
        if kept.contains(&value) {
            notes.push(format!("{option} {value} given twice runs once; --repeat runs a point again"));
        } else {
            kept.push(value);
        }
    }
    *values = kept;
}

/// A seed on the command line.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a seed: write a whole number from 0 to {}", u64::MAX))
}
