//! Private servers for the tests.

#[path = "../../scistream/tests/control/own.rs"]
mod own;
#[path = "../support/s3.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod s3;
#[path = "../support/mod.rs"]
mod servers;

pub(crate) use own::{PATIENCE, own_address};
pub(crate) use servers::endpoint::{Endpoint, NAME};
pub(crate) use servers::python::python;
pub(crate) use servers::{RedisServer, free_port};
