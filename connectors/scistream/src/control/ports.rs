//! Which ports sessions get, and who has which.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::forward::ReservedPort;

/// The ports that a control server hands out, and how they are told to others: behind a NAT, a container's or a NodePort's mapping,
/// those that others connect to are not those that are bound. As text `5100-5200`, or `5100-5200:30700-30800` where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMap {
    first: u16,
    last: u16,
    advertised: u16,
}

impl PortMap {
    /// The ports that are bound.
    pub fn bound(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// What others are told of a port that is bound.
    pub(crate) fn advertised(&self, bound: u16) -> u16 {
        self.advertised + (bound - self.first)
    }
}

impl Default for PortMap {
    /// The reference implementation's range.
    fn default() -> Self {
        Self { first: 5100, last: 5200, advertised: 5100 }
    }
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)?;
        if self.advertised != self.first {
            write!(f, ":{}-{}", self.advertised, self.advertised(self.last))?;
        }
        Ok(())
    }
}

/// Not a range of ports, or not a map of two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not ports: {0:?}; expected a range such as 5100-5200, or 5100-5200:30700-30800: two of the same length")]
pub struct PortMapError(String);

impl FromStr for PortMap {
    type Err = PortMapError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || PortMapError(text.into());
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (0 < first && first <= last).then_some((first, last))
        };
        let (bound, advertised) = text.split_once(':').unwrap_or((text, text));
        let (first, last): (u16, u16) = range(bound).ok_or_else(wrong)?;
        let (advertised, advertised_last) = range(advertised).ok_or_else(wrong)?;
        if advertised_last - advertised != last - first {
            return Err(wrong());
        }
        Ok(Self { first, last, advertised })
    }
}

/// The ports of one control server. Each is one session's at most.
#[derive(Debug)]
pub(crate) struct PortPool {
    ip: IpAddr,
    map: PortMap,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    /// Of each port of the range, whether a session has it.
    ports: Vec<bool>,
    free: usize,
    /// Whose turn it is: a port that was given back rests as long as possible, so that whoever still knows it by its former session
    /// meets no other.
    next: usize,
}

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortsError {
    #[error(
        "{asked} ports asked for and {free} of {all} are free{}; release a session, or start the control server with a larger \
         --port-range",
        others(*.foreign)
    )]
    Short { asked: usize, free: usize, all: usize, foreign: usize },
    #[error("can't bind {address}: this control server has no descriptor left; raise its limit by `ulimit -n`")]
    NoDescriptors { address: SocketAddr },
    #[error("can't bind {address}")]
    Bind { address: SocketAddr, source: io::Error },
}

impl PortsError {
    fn of(address: SocketAddr, source: io::Error) -> Self {
        // This process's limit, or the system's.
        let short =
            [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error())).contains(&source.raw_os_error());
        if short { Self::NoDescriptors { address } } else { Self::Bind { address, source } }
    }
}

fn others(ports: usize) -> String {
    if ports == 0 { String::new() } else { format!(", {ports} of which other programs have") }
}

impl PortPool {
    pub(crate) fn new(ip: IpAddr, map: PortMap) -> Arc<Self> {
        let all = map.count();
        Arc::new(Self { ip, map, taken: Mutex::new(Taken { ports: vec![false; all], free: all, next: 0 }) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many no session has.
    pub(crate) fn free(&self) -> usize {
        self.taken().free
    }

    pub(crate) fn map(&self) -> PortMap {
        self.map
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// As many as are asked for, or none. Those that other programs have are passed over.
    pub(crate) fn reserve(self: &Arc<Self>, asked: usize) -> Result<(Claim, Vec<ReservedPort>), PortsError> {
        let mut taken = self.taken();
        let all = taken.ports.len();
        let short = |free, foreign| PortsError::Short { asked, free, all, foreign };
        if asked > taken.free {
            return Err(short(taken.free, 0));
        }
        let (mut indices, mut ports) = (Vec::with_capacity(asked), Vec::with_capacity(asked));
        let mut foreign = 0;
        let start = taken.next;
        for index in (start..all).chain(0..start) {
            if ports.len() == asked {
                break;
            }
            if taken.ports[index] {
                continue;
            }
            match self.bind(index) {
                Ok(port) => {
                    indices.push(index);
                    ports.push(port);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => foreign += 1,
                Err(source) => return Err(PortsError::of(self.address(index), source)),
            }
        }
        if ports.len() < asked {
            return Err(short(taken.free, foreign));
        }
        taken.next = indices.last().map_or(start, |last| (last + 1) % all);
        Ok((self.claim(&mut taken, indices), ports))
    }

    /// These and no others: those of a session that was there before.
    pub(crate) fn reserve_again(self: &Arc<Self>, wanted: &[u16]) -> Result<(Claim, Vec<ReservedPort>), PortsError> {
        let mut taken = self.taken();
        let (mut indices, mut ports) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for wanted in wanted {
            let in_use = |kind: io::ErrorKind| PortsError::Bind {
                address: SocketAddr::new(self.ip, *wanted),
                source: kind.into(),
            };
            if !self.map.bound().contains(wanted) {
                return Err(in_use(io::ErrorKind::AddrNotAvailable));
            }
            let index = usize::from(wanted - self.map.first);
            if taken.ports[index] || indices.contains(&index) {
                return Err(in_use(io::ErrorKind::AddrInUse));
            }
            ports.push(self.bind(index).map_err(|source| PortsError::of(self.address(index), source))?);
            indices.push(index);
        }
        Ok((self.claim(&mut taken, indices), ports))
    }

    fn address(&self, index: usize) -> SocketAddr {
        // The range's length fits, for its ends do.
        SocketAddr::new(self.ip, self.map.first + index as u16)
    }

    fn bind(&self, index: usize) -> io::Result<ReservedPort> {
        ReservedPort::bind(self.address(index))
    }

    fn claim(self: &Arc<Self>, taken: &mut Taken, indices: Vec<usize>) -> Claim {
        for index in &indices {
            taken.ports[*index] = true;
        }
        taken.free -= indices.len();
        Claim { pool: Arc::clone(self), indices }
    }
}

/// The right to ports, whoever has their sockets; they are free again once it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    pool: Arc<PortPool>,
    indices: Vec<usize>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.pool.taken();
        for index in &self.indices {
            taken.ports[*index] = false;
        }
        taken.free += self.indices.len();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::atomic::{AtomicU8, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// A pool at an address that nobody else uses.
    fn pool(count: u16) -> Arc<PortPool> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
        PortPool::new(ip.into(), format!("5100-{}", 5099 + count).parse().unwrap())
    }

    #[test]
    fn maps_survive_as_text() {
        for text in ["5100-5200", "5100-5100", "5100-5200:30700-30800", "1-65535"] {
            assert_eq!(text.parse::<PortMap>().unwrap().to_string(), text);
        }
        assert_eq!("5100".parse::<PortMap>().unwrap().count(), 1);
        let map: PortMap = "5100-5200:30700-30800".parse().unwrap();
        assert_eq!((map.advertised(5100), map.advertised(5142), map.advertised(5200)), (30_700, 30_742, 30_800));
        for text in ["", "-", "0-5", "5-4", "1-65536", "1-2:3-5", "1-2:3", "a-b", "1-2:", "1-2:3-4:5-6", "1-2-3"] {
            let error = text.parse::<PortMap>().unwrap_err().to_string();
            assert!(error.contains("5100-5200:30700-30800"), "{error}");
        }
    }

    #[test]
    fn a_port_that_was_given_back_rests_while_there_are_others() {
        let pool = pool(4);
        let (claim, ports) = pool.reserve(2).unwrap();
        let first: Vec<_> = ports.iter().map(|port| port.address().port()).collect();
        drop((claim, ports));
        let (_claim, ports) = pool.reserve(2).unwrap();
        assert!(ports.iter().all(|port| !first.contains(&port.address().port())), "{first:?} {ports:?}");
    }

    #[test]
    fn a_shortage_gives_nothing_and_tells_the_numbers() {
        let pool = pool(4);
        let (claim, ports) = pool.reserve(3).unwrap();
        let error = pool.reserve(2).unwrap_err().to_string();
        assert!(error.starts_with("2 ports asked for and 1 of 4 are free;"), "{error}");
        assert_eq!(pool.free(), 1);
        drop((claim, ports));
        assert_eq!(pool.free(), 4);
        pool.reserve(4).unwrap();
    }

    #[test]
    fn ports_of_other_programs_are_passed_over() {
        let pool = pool(3);
        let other = TcpListener::bind(pool.address(1)).unwrap();
        let (_claim, ports) = pool.reserve(2).unwrap();
        let got: Vec<_> = ports.iter().map(ReservedPort::address).collect();
        assert_eq!(got, [pool.address(0), pool.address(2)]);
        let error = pool.reserve(1).unwrap_err().to_string();
        assert!(error.contains("1 of 3 are free, 1 of which other programs have"), "{error}");
        drop(other);
        pool.reserve(1).unwrap();
    }

    #[test]
    fn the_ports_of_a_former_session_are_had_again_or_none_is() {
        let pool = pool(3);
        let (middle, end) = (pool.address(1).port(), pool.address(2).port());
        let (claim, _ports) = pool.reserve_again(&[middle]).unwrap();
        pool.reserve_again(&[end, middle]).unwrap_err();
        pool.reserve_again(&[1]).unwrap_err();
        assert_eq!(pool.free(), 2);
        drop(claim);
        assert_eq!(pool.free(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn no_port_is_ever_two_sessions(steps in prop::collection::vec((1..5usize, any::<bool>()), 1..40)) {
            let pool = pool(12);
            let mut sessions = Vec::new();
            for (count, end) in steps {
                if end && !sessions.is_empty() {
                    sessions.swap_remove(count % sessions.len());
                } else if let Ok(session) = pool.reserve(count) {
                    sessions.push(session);
                }
                let mut ports: Vec<_> = sessions.iter().flat_map(|(_, ports)| ports).map(ReservedPort::address).collect();
                prop_assert_eq!(pool.free(), 12 - ports.len());
                ports.sort();
                ports.dedup();
                prop_assert_eq!(pool.free(), 12 - ports.len());
            }
        }
    }
}
