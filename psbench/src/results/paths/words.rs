//! Ratios and break-even sizes in words.

use super::{BreakEven, Crossing};
use crate::results::Estimate;
use crate::units::{Size, human};

/// A ratio with its interval: `3.12× (3.05 to 3.20)`.
pub(super) fn times(ratio: &Estimate) -> String {
    let median = format!("{}×", human::number(ratio.median));
    match &ratio.interval {
        Some(interval) => format!("{median} ({} to {})", human::number(interval.low), human::number(interval.high)),
        None => median,
    }
}

/// A break-even size in words: what was measured is told exactly, what lies between with three digits.
pub fn place(crossing: Crossing) -> String {
    match crossing {
        Crossing::Below(size) => format!("below {:#}", Size::from_bytes(size)),
        Crossing::At(size) => human::bytes(size as f64),
        Crossing::Above(size) => format!("above {:#}", Size::from_bytes(size)),
    }
}

/// The interval of a break-even size, with a space in front; empty for one round.
pub(super) fn spread(found: &BreakEven) -> String {
    found.interval.map_or_else(String::new, |interval| {
        format!(" ({:.0} %: {} to {})", interval.coverage * 100.0, place(interval.low), place(interval.high))
    })
}

pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [several @ .., last] if !several.is_empty() => format!("{} and {last}", several.join(", ")),
        names => names.concat(),
    }
}
