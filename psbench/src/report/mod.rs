//! What a person sees of a sweep: its plan, its progress, its results.

mod doctor;
mod grid;
mod plan;
mod progress;
mod table;
mod time_left;
mod trial;

pub use self::doctor::diagnosis;
pub use self::plan::plan;
pub use self::progress::Progress;
pub use self::table::table;
pub use self::trial::{name, outcome};
