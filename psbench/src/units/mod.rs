//! Quantities as people write them: `10MB`, `50ms`, `200/s`.
//!
//! Each reads from the command line and from recipes, is recorded as text, and shows itself so that it reads back the same.

pub mod human;
mod rate;
mod seconds;
mod size;

use std::fmt;

use serde::Deserialize;

pub use self::rate::Rate;
pub use self::seconds::Seconds;
pub use self::size::Size;

/// Why a text is not the quantity it should be: one line that says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// A number as people type it, less what groups its digits: `1_000`.
pub(crate) fn ungrouped(text: &str) -> String {
    text.trim().replace('_', "")
}

/// A quantity in a recipe, where a plain number needs no quotes.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number, or text with a unit")]
enum Written {
    Integer(u64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What `#[serde(try_from = "Written", into = "String")]` needs of a type that has `FromStr` and `Display`.
macro_rules! written_as_text {
    ($quantity:ty) => {
        impl TryFrom<$crate::units::Written> for $quantity {
            type Error = String;

            fn try_from(written: $crate::units::Written) -> Result<Self, String> {
                let text = written.to_string();
                text.parse().map_err(|error| format!("{text:?} is {error}"))
            }
        }

        impl From<$quantity> for String {
            fn from(quantity: $quantity) -> String {
                quantity.to_string()
            }
        }
    };
}
use written_as_text;
