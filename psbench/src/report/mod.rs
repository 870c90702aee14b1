//! What a person sees: of a sweep its plan, its progress, its results; of a host or a gateway what is there.

mod chart;
mod doctor;
mod gateway;
mod grid;
mod paths;
mod plan;
mod progress;
mod saturation;
mod table;
mod time_left;
mod trial;

pub use self::chart::chart;
pub use self::doctor::diagnosis;
pub use self::gateway::gateway;
pub(crate) use self::plan::plan;
pub use self::progress::Progress;
pub use self::table::table;
pub use self::trial::{name, outcome};
