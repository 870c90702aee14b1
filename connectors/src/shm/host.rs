//! Which host this is.

use std::fs;
use std::io::{self, ErrorKind};

use uuid::Uuid;

/// The kernel's random name for this boot of this host; containers on one host share it.
pub(super) fn this_host() -> io::Result<Uuid> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Uuid::try_parse(id.trim_end()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_name() {
        let host = this_host().unwrap();
        assert!(!host.is_nil());
        assert_eq!(host, this_host().unwrap());
    }
}
