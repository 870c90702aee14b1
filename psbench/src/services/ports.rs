//! Free ports of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use super::ServicesError;

/// Below the ports that the system hands out (to clients, and to whoever binds port 0), so that one stays free while a service restarts.
const RANGE: Range<u16> = 10_000..30_000;

/// Enough to find one wherever there is one.
const TRIES: usize = 1000;

/// Ports that nothing listens on, each another one.
pub(super) fn free(count: usize) -> Result<Vec<u16>, ServicesError> {
    // Held until all are found, so that they differ.
    let found = std::iter::repeat_with(|| rand::random_range(RANGE)).take(TRIES).filter_map(listen).take(count);
    let listeners: Vec<_> = found.collect();
    if listeners.len() < count {
        return Err(ServicesError::NoPort);
    }
    Ok(listeners.iter().map(|(port, _)| *port).collect())
}

/// The first of these ports that a process listens on.
pub(super) fn taken(ports: &[u16]) -> Option<u16> {
    ports.iter().copied().find(|port| listen(*port).is_none())
}

fn listen(port: u16) -> Option<(u16, TcpListener)> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (port, listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_taken_once_bound() {
        let ports = free(3).unwrap();
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
        let _held = listen(ports[1]).unwrap();
        assert_eq!(taken(&ports), Some(ports[1]));
    }
}
