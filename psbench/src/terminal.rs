//! What users are told beside results and log.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Tells by standard error. That it is closed, or full, ends nothing.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
