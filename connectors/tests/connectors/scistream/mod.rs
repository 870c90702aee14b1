//! Objects through gateways: psbench's, with each type of data server, and a double of the reference's.

#[path = "../../../scistream/tests/control/double.rs"]
#[allow(dead_code, reason = "its own tests use the rest")]
mod double;
mod faults;
mod paths;
mod sites;
mod support;
