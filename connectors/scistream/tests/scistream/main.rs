//! What holds for the package as its users see it, in one program, which is linked once. The runner gives each test a process of its own:
//! some count what their process holds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod conformance;
mod control;
mod external;
mod generated;
mod namespaces;
mod properties;
mod soak;
mod support;
