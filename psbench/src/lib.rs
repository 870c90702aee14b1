//! `psbench` measures what scales in stream processing: data through the broker, or proxies past it.
//!
//! The program is a thin layer over this library, which exists for its tests and benches; only the command line and the files that
//! a run leaves behind are stable.

pub mod brokers;
pub mod cli;
pub mod clock;
pub mod dispatcher;
pub mod environment;
pub mod generator;
pub mod item;
pub mod logging;
pub mod options;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod results;
pub mod sweep;
pub mod units;
pub mod worker;
