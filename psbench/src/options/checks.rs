//! Checks that several options share.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{self, Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::OptionError;
use crate::units::ungrouped;

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

/// A whole number on the command line, as people type it: `1000`, `1_000`, `1e3`, `10.0`.
pub(super) fn whole<T: TryFrom<u64> + Bounded>(text: &str) -> Result<T, String> {
    read_whole(text)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("not a whole number from 0 to {}: write for example 1000, 1_000 or 1e3", T::MOST))
}

fn read_whole(text: &str) -> Option<u64> {
    let plain = ungrouped(text);
    let (digits, power) = match plain.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.trim_start_matches('+').parse::<u32>().ok()?),
        None => (&*plain, 0),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    if whole.is_empty() || !(whole.to_owned() + decimals).bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power = power.checked_sub(decimals.len().try_into().ok()?)?;
    format!("{whole}{decimals}").parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(power)?)
}

/// A kind of numbers that ends somewhere.
pub(super) trait Bounded {
    /// The largest.
    const MOST: u64;
}

impl Bounded for u16 {
    const MOST: u64 = u16::MAX as u64;
}

impl Bounded for u32 {
    const MOST: u64 = u32::MAX as u64;
}

impl Bounded for u64 {
    const MOST: u64 = u64::MAX;
}

/// A path on the command line. What results record is text, and so are recipes and the configurations of other programs.
pub(crate) fn utf8_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| match path.into_string() {
        Ok(path) if path.is_empty() => Err("an empty path"),
        Ok(path) => Ok(PathBuf::from(path)),
        Err(_) => {
            Err("not UTF-8, which neither results nor configurations could hold: give it another name, or a link to it")
        }
    })
}

/// The same path, wherever a process is that gets it.
pub(super) fn absolute(option: &'static str, path: &Path) -> Result<PathBuf, OptionError> {
    let made = path::absolute(path).map_err(|source| OptionError::File { option, path: path.into(), source })?;
    match made.to_str() {
        Some(_) => Ok(made),
        None => {
            let problem = "the directory that psbench was started in is not UTF-8, which results could not record: start it in another";
            Err(OptionError::invalid(option, &path.display(), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_type_them() {
        for (text, number) in [
            ("1000", 1000),
            ("1_000", 1000),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("10.0", 10),
            ("1.5e3", 1500),
            ("007", 7),
            ("0", 0),
        ] {
            assert_eq!(whole::<u32>(text), Ok(number), "{text}");
        }
        for text in ["", "-5", "1.5", "1e-3", "1e3.5", "ten", "4294967296", "1e99", "0x10", ".5", "1 000", "e3"] {
            let error = whole::<u32>(text).unwrap_err();
            assert!(error.contains("from 0 to 4294967295") && error.contains("1e3"), "{text}: {error}");
        }
        assert_eq!(whole::<u64>("18446744073709551615"), Ok(u64::MAX));
        assert!(whole::<u16>("65536").unwrap_err().contains("65535"));
    }
}
