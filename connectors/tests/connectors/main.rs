//! What holds for the package as its users see it, in one program, which is linked once: a module for each connector or concern. The
//! runner gives each test a process of its own, hence a test may change what belongs to its process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod conformance;
mod descriptors;
mod endpoint;
mod large;
mod peer;
mod redis;
mod s3;
mod scistream;
mod shm;
mod support;
