//! Gateways of SciStream that a sweep goes through: those that options name, or a private pair of this host.

mod private;
mod usage;

pub(crate) use self::private::wishes;
pub use self::private::{PrivateError, PrivateGateways};
pub(crate) use self::usage::{GatewayMeter, Reading};
