//! Durations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{UnitError, Written, ungrouped, written_as_text};

/// A duration from 0 to 10⁹ s: seconds (`1.0`, `0`) or with a unit (`50ms`, `2min`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "String")]
#[schemars(with = "String")]
pub struct Seconds(Duration);

written_as_text!(Seconds);

/// 31 years: longer is a mistake, and would overflow instants.
const MAX: Duration = Duration::from_secs(1_000_000_000);

impl Seconds {
    /// A duration of `milliseconds`.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The same as a standard duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Seconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = &*ungrouped(text);
        let duration = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        match duration {
            Some(duration) if duration <= MAX => Ok(Self(duration)),
            Some(_) => Err(UnitError("too long: 1000000000 s is the most".into())),
            None => Err(UnitError(
                "not a duration: write seconds from 0 up or a unit, for example 1.0, 50ms or 2min".into(),
            )),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        // `Debug` of a duration is exact: `50ms`, `1.5s`.
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_seconds_and_units() {
        for (text, milliseconds) in [
            ("1.0", 1000),
            ("0", 0),
            ("0.01", 10),
            ("50ms", 50),
            ("2s", 2000),
            ("2min", 120_000),
            ("1.5s", 1500),
            ("1e2", 100_000),
            ("1_000ms", 1000),
        ] {
            assert_eq!(text.parse(), Ok(Seconds::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "-1", "-1s", "nan", "inf", "1e300", "5 parsecs", "ms", "1000000001"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_shows(nanoseconds in prop_oneof![0..10_000u64, 0..1_000_000_000_000_000_000u64]) {
            let seconds = Seconds(Duration::from_nanos(nanoseconds));
            prop_assert_eq!(seconds.to_string().parse(), Ok(seconds));
            let json = serde_json::to_string(&seconds).unwrap();
            prop_assert_eq!(serde_json::from_str::<Seconds>(&json).unwrap(), seconds);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Seconds>();
        }
    }
}
