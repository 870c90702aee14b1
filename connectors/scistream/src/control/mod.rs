//! Control servers (S2CS): sessions, and who may have which.
//!
//! A session is none → *requested* (its ports are reserved; the request waits for the application's hello) → *greeted* → *forwarding*
//! (its targets are known, its data server started) → released. Each is its own: whatever ends it, its ports can be bound again by then,
//! and are nobody else's before. A request that waits costs a future and no thread; whoever goes away while waiting gives everything
//! back. What may come at any time, in any number or size, is bounded: [`Limits`], [`Quotas`], and the times of [`ControlConfig`].

mod ask;
mod care;
mod config;
mod directory;
mod error;
mod kept;
mod ports;
mod report;
mod serve;
mod server;
mod service;
mod session;
mod table;
mod usage;

pub use self::config::{ControlConfig, Limits, Quotas};
pub use self::error::{ControlError, causes};
pub use self::ports::{PortMap, PortMapError};
pub use self::report::{PortsReport, SessionReport, SessionStage};
pub use self::server::ControlServer;
