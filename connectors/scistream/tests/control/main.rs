//! Control servers and user clients, ours and the reference's ways.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod double;
mod endings;
mod held;
mod identities;
mod kept;
mod limits;
mod own;
mod paths;
mod reference;
mod sessions;
mod stock;
mod support;
mod tls;
mod wrong;
