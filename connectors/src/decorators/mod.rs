//! Connectors around connectors, that slow down, disturb or count: how limits and faults are tested.
//!
//! Each passes its inner connector's [`config`](crate::Connector::config) on, so that [`connect`](crate::ConnectorConfig::connect)
//! reaches the same objects undecorated.

mod faulty;
mod metered;
mod throttled;

pub use self::faulty::{Faults, Faulty};
pub use self::metered::{Metered, Readings};
pub use self::throttled::Throttled;
