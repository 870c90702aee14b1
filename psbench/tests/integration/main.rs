//! psbench from outside: the real program, with real servers, engines and gateways on this host.
//!
//! One binary with a module for each part of psbench. What takes minutes, or what another package's tests hold in full, is in the module
//! `slow` of its part: `./test.sh --all` runs it, too.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod brokers;
mod cli;
mod compare_paths;
mod cuts;
mod docs;
mod doctor;
mod engine_ends;
mod engines;
mod extending;
mod facilities;
mod failures;
mod gateways;
mod generators;
mod interop;
#[cfg(feature = "kafka")]
mod kafka;
mod launchers;
mod lifetimes;
mod limits;
mod outputs;
mod pool;
mod redis_ways;
mod replaced;
mod scistream;
mod services;
mod stores;
mod strangers;
mod stream_scaling;
mod support;
mod through_gateways;
mod trace;
mod wires;
