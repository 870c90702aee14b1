//! Whatever comes in from the other gateway of a session, whose key it has, is a stream or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scistream::dataserver::read_records;

fuzz_target!(|bytes: &[u8]| read_records(bytes));
