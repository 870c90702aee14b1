//! Paths beside each other.

mod break_even;
mod ratio;
mod verdict;
mod words;

pub use self::break_even::{BreakEven, Crossing, CrossingInterval};
pub(super) use self::ratio::compare;
pub use self::ratio::{PathBreakEven, PathRatio};
pub use self::verdict::ROUNDS_FOR_95;
pub(super) use self::verdict::sentences;
pub use self::words::place;

/// What proxies lead to without gateways: the measure of all other paths.
pub(crate) const PEER: &str = "peer";
/// With what the names of paths through gateways begin.
const THROUGH_GATEWAYS: &str = "scistream";
