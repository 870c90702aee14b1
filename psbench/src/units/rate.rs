//! Rates of items.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{UnitError, Written, ungrouped, written_as_text};
use crate::plan::Pacing;

/// How many items are due each second: `200`, `200/s`, `12k/s`, or `max` for all at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "String")]
#[schemars(with = "String")]
pub enum Rate {
    /// Items per second, 10⁻⁹ to 10⁹.
    PerSecond(f64),
    /// As fast as the stream takes them.
    Max,
}

written_as_text!(Rate);

impl From<Rate> for Pacing {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::PerSecond(rate) => Self::Interval(Duration::from_secs_f64(1.0 / rate)),
            Rate::Max => Self::Max,
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = &*ungrouped(text);
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let number = text.strip_suffix("/s").unwrap_or(text).trim_end();
        let (number, factor) = match number.strip_suffix(['k', 'K']) {
            Some(thousands) => (thousands, 1e3),
            None => number.strip_suffix('M').map_or((number, 1.0), |millions| (millions, 1e6)),
        };
        match number.trim_end().parse::<f64>() {
            // The interval is then within what a duration can hold: 1 ns to 10⁹ s.
            Ok(rate) if (1e-9..=1e9).contains(&(rate * factor)) => Ok(Self::PerSecond(rate * factor)),
            _ => Err(UnitError(
                "not a rate: write items per second above 0 and up to 1000M/s, for example 200/s \
                 or 12k/s, or max"
                    .into(),
            )),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Max => f.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_rates() {
        for (text, rate) in [
            ("200", Rate::PerSecond(200.0)),
            ("200/s", Rate::PerSecond(200.0)),
            ("0.5/s", Rate::PerSecond(0.5)),
            ("12k/s", Rate::PerSecond(12_000.0)),
            ("1M", Rate::PerSecond(1e6)),
            ("1_000", Rate::PerSecond(1e3)),
            ("1e3/s", Rate::PerSecond(1e3)),
            ("max", Rate::Max),
            ("MAX", Rate::Max),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in ["", "0", "-5/s", "nan", "inf", "200/min", "/s", "1e10", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_shows(rate in 1e-9..1e9f64) {
            let rate = Rate::PerSecond(rate);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            let json = serde_json::to_string(&rate).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), rate);
        }

        #[test]
        fn becomes_an_interval(rate in 1e-9..=1e9f64) {
            let Pacing::Interval(interval) = Rate::PerSecond(rate).into() else {
                return Err(TestCaseError::fail("no interval"));
            };
            prop_assert!(interval.as_nanos() >= 1);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Rate>();
        }
    }
}
