//! Amounts of data.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{UnitError, Written, ungrouped, written_as_text};

/// An amount of data, from 0 to 1 EB: `100000`, `100kB` (1000 bytes each), `1MiB` (1024² bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "String")]
#[schemars(with = "String")]
pub struct Size(u64);

written_as_text!(Size);

/// Larger amounts are mistakes, and would overflow sums.
const MAX: u64 = bytesize::EB;

const UNITS: [(u64, &str); 8] = [
    (bytesize::TB, "TB"),
    (bytesize::TIB, "TiB"),
    (bytesize::GB, "GB"),
    (bytesize::GIB, "GiB"),
    (bytesize::MB, "MB"),
    (bytesize::MIB, "MiB"),
    (bytesize::KB, "kB"),
    (bytesize::KIB, "KiB"),
];

impl Size {
    /// An amount of `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (numerator, denominator) = fraction(&ungrouped(text)).ok_or_else(|| {
            UnitError("not a size: write bytes or a unit, for example 100000, 100kB, 10MB or 1MiB".into())
        })?;
        if !numerator.is_multiple_of(denominator) {
            return Err(UnitError("not a size: write a whole number of bytes".into()));
        }
        match u64::try_from(numerator / denominator) {
            Ok(bytes) if bytes <= MAX => Ok(Self(bytes)),
            _ => Err(UnitError("too large a size: 1EB is the most".into())),
        }
    }
}

/// The bytes as numerator and denominator: floating-point numbers would make 1000 bytes of `1.001kB`.
fn fraction(text: &str) -> Option<(u128, u128)> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (power, unit) = exponent(rest);
    if unit.contains(|character: char| character.is_ascii_digit()) {
        return None;
    }
    let ByteSize(unit) = format!("1{unit}").parse().ok()?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let units = format!("{whole}{decimals}").parse::<u128>().ok()?.checked_mul(unit.into())?;
    Some((units.checked_mul(10_u128.checked_pow(power)?)?, 10_u128.checked_pow(decimals.len().try_into().ok()?)?))
}

/// The power of ten at the beginning of what follows a number's digits, and the rest; `1EB` has none.
fn exponent(text: &str) -> (u32, &str) {
    let Some(power) = text.strip_prefix(['e', 'E']) else { return (0, text) };
    let power = power.strip_prefix('+').unwrap_or(power);
    let (digits, rest) = power.split_at(power.find(|c: char| !c.is_ascii_digit()).unwrap_or(power.len()));
    digits.parse().map_or((0, text), |power| (power, rest))
}

/// Exact, in the largest unit that allows it: `100kB`; `{:#}` sets the unit apart: `100 kB`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) =
            UNITS.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)).unwrap_or((1, "B"));
        let space = if f.alternate() { " " } else { "" };
        write!(f, "{}{space}{name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_plain_bytes_and_units() {
        for (text, bytes) in [
            ("100000", 100_000),
            ("0", 0),
            ("100kB", 100_000),
            ("100KB", 100_000),
            ("10MB", 10_000_000),
            ("1.5 MB", 1_500_000),
            ("1.001kB", 1001),
            ("1e6", 1_000_000),
            ("1.5E+3", 1500),
            ("1e3 kB", 1_000_000),
            ("1_000_000", 1_000_000),
            ("1EB", MAX),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            "MB",
            "-1",
            "1.5",
            "1.5B",
            "1.0001kB",
            "10 5kB",
            "1.2.3MB",
            ".",
            "10XB",
            "e6",
            "1ee6",
            "1e-3",
            "1e99",
            "nan",
            "99999999EB",
            "18446744073709551615",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn shows_the_shortest_exact_form() {
        for (bytes, text) in [(0, "0B"), (1, "1B"), (100_000, "100kB"), (1 << 20, "1MiB"), (1_048_577, "1048577B")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("{:#}", Size(10_000_000)), "10 MB");
    }

    proptest! {
        #[test]
        fn reads_back_what_it_shows(mantissa in 0u64..100_000, scale in 0u32..4, binary: bool) {
            let size = Size(mantissa * if binary { 1 << (10 * scale) } else { 1000u64.pow(scale) });
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let json = serde_json::to_string(&size).unwrap();
            prop_assert_eq!(serde_json::from_str::<Size>(&json).unwrap(), size);
            prop_assert_eq!(serde_json::from_str::<Size>(&size.bytes().to_string()).unwrap(), size);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Size>();
        }
    }
}
