//! `psbench` measures what scales in stream processing: data through the broker, or proxies past it.
//!
//! The program is a thin layer over this library: a [`Program`] with connectors, brokers and executors of your own is a psbench of your
//! own. Beside that the library exists for its tests and benches; what is stable are the command line, the files that a run leaves
//! behind, and the contracts of the three.

// Both panic where nobody reads, or nothing more can be written.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod brokers;
pub mod cli;
pub mod clock;
mod control_group;
pub mod dispatcher;
pub mod doctor;
pub mod environment;
pub mod gateways;
pub mod generator;
mod image;
pub mod item;
pub mod logging;
pub mod memory;
mod open_files;
pub mod options;
pub mod plan;
mod program;
pub mod recorder;
pub mod report;
pub mod results;
mod scratch;
pub mod services;
mod signals;
pub mod sweep;
mod terminal;
mod threads;
pub mod trace;
pub mod units;
pub mod worker;

pub use program::Program;
