//! The program in the kernel, and what it shares with this process.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap, MapData, MapError, SockHash};
use aya::programs::SkSkb;
use aya::{Ebpf, EbpfLoader};
use rustix::io::Errno;
use rustix::net::sockopt::socket_cookie;
use rustix::thread::{CapabilitySet, capabilities};

use super::socket;

/// The program, compiled from `bpf/sockmap.bpf.c`, which says how.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/sockmap.bpf.o");

/// Its function.
const VERDICT: &str = "verdict";

/// `struct counts` of the program, as so many numbers.
type CountsRecord = [u64; 6];
/// `struct grant` of the program.
type GrantRecord = [u64; 4];

/// The program at work, with the sockets that it moves data between. It ends when this is dropped; sockets then are as any others.
pub(super) struct Program {
    sockets: Mutex<SockHash<MapData, u64>>,
    counts: Mutex<HashMap<MapData, u64, CountsRecord>>,
    grants: Mutex<HashMap<MapData, u64, GrantRecord>>,
    /// Attached to `sockets` for as long as they are here.
    _programs: Ebpf,
}

/// What became of the bytes that a socket received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Those that the program moved to the peer.
    pub(super) redirected: u64,
    /// Those that the socket's own reader gets.
    pub(super) passed: u64,
}

/// What the program may do with what a socket receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// The most that may wait until the peer's send buffer has room for it, in bytes. 0: nothing is redirected.
    pub(super) bytes: u64,
    /// Of what was passed, how much has been written to the peer. Only when that is all of it the program redirects again.
    pub(super) taken: u64,
}

/// So large a backlog can be told from none in TCP's sequence numbers.
const LARGEST: u64 = 1 << 30;
/// What a buffer costs the kernel beside its bytes.
const BUFFER_COST: u64 = 1024;
/// Small as the grant may be, so many buffers have room.
const FEWEST_BUFFERS: u64 = 16;

impl Program {
    /// Loads it, for this many connections.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(super) fn load(connections: u32) -> Result<Self, String> {
        rights()?;
        Self::try_load(connections.saturating_mul(2)).map_err(|error| {
            let mut hint = "it takes a kernel with CONFIG_NET_SOCK_MSG and CONFIG_DEBUG_INFO_BTF, and was tried on Linux 6.18";
            if causes(&*error).any(|error| is_kind(error, io::ErrorKind::PermissionDenied)) {
                hint = "the kernel forbids it: a container's or security module's policy, or on kernels before 5.11 a limit on locked \
                        memory (raise it with `ulimit -l unlimited`)";
            }
            let told = causes(&*error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
            format!("can't load its eBPF program: {told}; {hint}")
        })
    }

    fn try_load(sockets: u32) -> Result<Self, Box<dyn Error>> {
        let mut loader = EbpfLoader::new();
        for map in ["sockets", "counts", "grants"] {
            loader.map_max_entries(map, sockets);
        }
        let mut programs = loader.load(OBJECT)?;
        let sockets: SockHash<MapData, u64> = take(&mut programs, "sockets")?;
        let program: &mut SkSkb = programs.program_mut(VERDICT).ok_or_else(|| missing(VERDICT))?.try_into()?;
        program.load()?;
        program.attach(sockets.fd())?;
        Ok(Self {
            sockets: Mutex::new(sockets),
            counts: Mutex::new(take(&mut programs, "counts")?),
            grants: Mutex::new(take(&mut programs, "grants")?),
            _programs: programs,
        })
    }

    /// Makes two connections each other's peers. From now on what they receive is counted; it is redirected once they are granted it.
    ///
    /// # Errors
    /// There are as many connections as it was loaded for, or one of them is gone.
    pub(super) fn join(self: &Arc<Self>, one: impl AsFd, other: impl AsFd) -> io::Result<Joined> {
        let mut joined = Joined::new(self, &one, &other)?;
        for side in [0, 1] {
            joined.prepare(side, CountsRecord::default())?;
        }
        for (side, socket) in [one.as_fd(), other.as_fd()].into_iter().enumerate() {
            joined.insert(side, socket)?;
        }
        Ok(joined)
    }

    /// Joins them once so many bytes of the first were read, and grants it the rest. What is known already is as if it had been copied.
    #[cfg(test)]
    pub(super) fn join_later(self: &Arc<Self>, one: impl AsFd, other: impl AsFd, read: u64) -> io::Result<Joined> {
        let mut joined = Joined::new(self, &one, &other)?;
        let counts = [[0, read, 0, 0, 0, 0], CountsRecord::default()];
        for (side, counts) in counts.into_iter().enumerate() {
            joined.prepare(side, counts)?;
            joined.grant(side, Grant { bytes: LARGEST, taken: counts[1] })?;
        }
        joined.insert(1, other.as_fd())?;
        joined.insert(0, one.as_fd())?;
        Ok(joined)
    }

    /// Connections that are joined now.
    #[cfg(test)]
    pub(super) fn joined(&self) -> [usize; 3] {
        [
            lock(&self.sockets).keys().count() / 2,
            lock(&self.counts).keys().count() / 2,
            lock(&self.grants).keys().count() / 2,
        ]
    }
}

/// Two connections, each other's peers until this is dropped. The sides are 0 and 1, as they were joined.
pub(super) struct Joined {
    program: Arc<Program>,
    cookies: [u64; 2],
    inserted: [bool; 2],
}

impl Joined {
    fn new(program: &Arc<Program>, one: impl AsFd, other: impl AsFd) -> io::Result<Self> {
        let cookies = [socket_cookie(one)?, socket_cookie(other)?];
        Ok(Self { program: Arc::clone(program), cookies, inserted: [false; 2] })
    }

    fn prepare(&self, side: usize, counts: CountsRecord) -> io::Result<()> {
        lock(&self.program.counts).insert(self.cookies[side], counts, 0).map_err(io_error)?;
        self.grant(side, Grant { bytes: 0, taken: 0 })
    }

    fn insert(&mut self, side: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        /// The kernel takes only what is established. Whose stream has ended already is as it would be without a program.
        const ENDED: i32 = Errno::OPNOTSUPP.raw_os_error();
        match lock(&self.program.sockets).insert(self.cookies[side], socket.as_raw_fd(), 0).map_err(io_error) {
            Err(error) if error.raw_os_error() == Some(ENDED) => return Ok(()),
            inserted => inserted?,
        }
        self.inserted[side] = true;
        // The program is told of what arrives from now on, not of what is there already.
        socket::kick(socket)
    }

    /// Whether data can be redirected. It can't where a stream ended before it was joined.
    pub(super) fn is_complete(&self) -> bool {
        self.inserted == [true, true]
    }

    /// What became of what a side received; `None`: its own reader gets all of it.
    ///
    /// # Errors
    /// None, as long as the kernel works.
    pub(super) fn counts(&self, side: usize) -> io::Result<Option<Counts>> {
        if !self.inserted[side] {
            return Ok(None);
        }
        let [redirected, passed, ..] = lock(&self.program.counts).get(&self.cookies[side], 0).map_err(io_error)?;
        Ok(Some(Counts { redirected, passed }))
    }

    /// Says what may become of what a side receives.
    ///
    /// # Errors
    /// The kernel has no memory left.
    pub(super) fn grant(&self, side: usize, grant: Grant) -> io::Result<()> {
        let bytes = grant.bytes.min(LARGEST);
        let buffers = if bytes == 0 { 0 } else { (bytes / BUFFER_COST).max(FEWEST_BUFFERS) };
        let record = [self.cookies[1 - side], bytes, buffers, grant.taken];
        lock(&self.program.grants).insert(self.cookies[side], record, 0).map_err(io_error)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        for cookie in &self.cookies {
            // What is not there need not be removed.
            let _ = lock(&self.program.sockets).remove(cookie);
        }
        for cookie in &self.cookies {
            let _ = lock(&self.program.grants).remove(cookie);
            let _ = lock(&self.program.counts).remove(cookie);
        }
    }
}

/// Whether this thread may load it.
fn rights() -> Result<(), String> {
    let Ok(held) = capabilities(None) else { return Ok(()) };
    let missing: Vec<_> = [
        ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_PERFMON", CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN),
    ]
    .into_iter()
    .filter(|(_, sufficient)| !held.effective.intersects(*sufficient))
    .map(|(name, _)| name)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "it lacks {}: run as root, or give the program what it needs with \
         `setcap cap_bpf,cap_net_admin,cap_perfmon+ep <program>`",
        missing.join(", ")
    ))
}

fn take<T: TryFrom<aya::maps::Map, Error = MapError>>(programs: &mut Ebpf, name: &str) -> Result<T, Box<dyn Error>> {
    Ok(programs.take_map(name).ok_or_else(|| missing(name))?.try_into()?)
}

fn missing(name: &str) -> String {
    format!("the object has no {name:?}")
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn is_kind(error: &(dyn Error + 'static), kind: io::ErrorKind) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind)
}

fn io_error(error: MapError) -> io::Error {
    /// `sock_hash_alloc_elem`, `alloc_htab_elem`: the map is full.
    const FULL: i32 = Errno::TOOBIG.raw_os_error();
    match error {
        MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(FULL) => {
            io::Error::new(io::ErrorKind::QuotaExceeded, "as many connections as the eBPF program was loaded for")
        }
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}

/// Whoever panicked left a map that is in the kernel, and whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Program")
    }
}
