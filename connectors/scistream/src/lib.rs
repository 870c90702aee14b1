//! SciStream: bulk data between facilities whose hosts can't reach each other.
//!
//! A user client (S2UC) asks a control server (S2CS) on a gateway node of either facility for a session; each starts on-demand proxies,
//! the data servers (S2DS), which forward the connections of its listeners to their targets.
//!
//! Source: the SciStream reference implementation, version 1.2.1, and its papers (HPDC '22; "Evaluating SciStream on FABRIC", 2022).

pub mod auth;
pub mod client;
pub mod conformance;
pub mod control;
pub mod dataserver;
mod forward;
pub mod metrics;
mod relay;
mod seldom;
pub mod tls;
mod vocabulary;

pub use self::client::UserClient;
pub use self::control::{ControlConfig, ControlServer};
pub use self::relay::DataPlane;
pub use self::seldom::Seldom;
pub use self::vocabulary::{Listener, Role, VocabularyError};

/// Messages and services of the control protocol, generated from `proto/` by the test `generated`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    include!("proto/scistream.rs");

    /// What psbench's control servers tell of themselves.
    pub mod gateway {
        include!("proto/psbench.scistream.rs");
    }
}
