//! A socket for datagrams, from which many are read at once.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    set_socket_send_buffer_size_force,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most that one read takes: what UDP's length field allows, and what the kernel joins at most of datagrams that came in a row
/// (`UDP_GRO`).
const READ: usize = 65_535;

/// Reads of one system call: so many that datagrams of a burst share its cost, so few that what they fill stays in the second-level cache.
const BATCH: usize = 16;

/// What the kernel may hold of datagrams that were not read yet, where it is allowed that much. Datagrams come in bursts, and nobody
/// sends again those that find no room.
const SOCKET_BUFFER: usize = 4 << 20;

/// That it can be read, or that the other side refused something.
pub(super) const WATCHED: Interest = Interest::READABLE.add(Interest::ERROR);

/// A socket that does not block.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Who a datagram came from, and which of this host's addresses it was sent to, so that an answer comes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

impl Socket {
    /// Takes over one that is bound. `buffer`: `SO_SNDBUF` and `SO_RCVBUF`, in bytes.
    pub(super) fn new(socket: UdpSocket, buffer: Option<usize>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // quinn-udp forbids fragments, since QUIC probes paths. Nobody probes here: what was sent whole has to arrive whole.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT)?;
        if socket.local_addr()?.is_ipv6() {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?;
            allow_fragments(&socket)?;
        }
        let size = buffer.unwrap_or(SOCKET_BUFFER);
        // Past the system's bound with CAP_NET_ADMIN alone.
        set_socket_recv_buffer_size_force(&socket, size).or_else(|_| set_socket_recv_buffer_size(&socket, size))?;
        set_socket_send_buffer_size_force(&socket, size).or_else(|_| set_socket_send_buffer_size(&socket, size))?;
        Ok(Self { socket, state })
    }

    /// One that exchanges datagrams with this address alone.
    pub(super) fn connected(to: SocketAddr, buffer: Option<usize>) -> io::Result<Self> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Self::new(socket, buffer)
    }

    /// One that can always be read, which fails.
    #[cfg(test)]
    pub(super) fn broken() -> Self {
        use std::io::Write;
        use std::os::fd::OwnedFd;
        let Self { socket, state } = Self::new(UdpSocket::bind("127.0.0.1:0").unwrap(), None).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut socket = OwnedFd::from(socket);
        rustix::io::dup2(&reader, &mut socket).unwrap();
        Self { socket: socket.into(), state }
    }

    /// Watches for datagrams and refusals, on the thread that calls this. Not for room to send: each datagram that has left would wake the thread.
    #[expect(unsafe_code, reason = "the socket is shared with the thread that sends")]
    pub(super) fn readable(self: &Arc<Self>) -> io::Result<AsyncFd<Arc<Self>>> {
        // SAFETY: the descriptor is always this socket's own, which stays open for as long as the `Arc` that is handed over.
        unsafe { AsyncFd::register_with_interest(Arc::clone(self), WATCHED) }.map_err(io::Error::from)
    }

    /// Reads what is there, up to a batch; none is left behind if it was less than that.
    pub(super) fn read<'a>(&self, buffers: &'a mut Buffers) -> io::Result<Batch<'a>> {
        let mut slices = buffers.memory.chunks_exact_mut(READ).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| slices.next().unwrap_or(IoSliceMut::new(&mut [])));
        let count = self.state.recv((&self.socket).into(), &mut slices, &mut buffers.metas)?;
        Ok(Batch { buffers, count })
    }

    /// Sends datagrams on, from the address of this host that is given; says how many of them could not be sent, and why the last.
    pub(super) fn send(&self, datagrams: &Datagrams<'_>, to: SocketAddr, from: Option<IpAddr>) -> Sent {
        let mut sent = Sent::default();
        let size = datagrams.size.max(1);
        let mut rest = datagrams.bytes;
        // An empty datagram is one, too.
        while sent.datagrams + sent.dropped < datagrams.count() {
            // What came in a row leaves in a row: one system call (`UDP_SEGMENT`), as long as the way out can do so.
            let chunk = rest.len().min(size * self.state.max_gso_segments());
            let (now, later) = rest.split_at(chunk);
            let part = Datagrams { bytes: now, size: datagrams.size, ..*datagrams };
            match self.transmit(&part, to, from) {
                Ok(()) => sent.add(&part),
                // They are larger than what the way out takes unfragmented, or it can't do it at all.
                Err(_) if part.count() > 1 => {
                    for bytes in now.chunks(size) {
                        let part = Datagrams { bytes, size, ..*datagrams };
                        match self.transmit(&part, to, from) {
                            Ok(()) => sent.add(&part),
                            Err(error) => sent.fail(error),
                        }
                    }
                }
                Err(error) => sent.fail(error),
            }
            rest = later;
        }
        sent
    }

    fn transmit(&self, datagrams: &Datagrams<'_>, to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: datagrams.meta.ecn,
            contents: datagrams.bytes,
            segment_size: Some(datagrams.size),
            src_ip: from,
        };
        match self.state.try_send((&self.socket).into(), &transmit) {
            // That an earlier one was refused; this one has not been sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.state.try_send((&self.socket).into(), &transmit)
            }
            sent => sent,
        }
    }

    /// Datagrams that the kernel dropped since the socket was made, because nobody read them in time.
    pub(super) fn overflowed(&self) -> u32 {
        memory_info(&self.socket).map_or(0, |info| info[libc::SK_MEMINFO_DROPS as usize])
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What became of datagrams.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
    pub(super) error: Option<io::Error>,
}

impl Sent {
    fn add(&mut self, part: &Datagrams<'_>) {
        self.datagrams += part.count();
        self.bytes += part.bytes.len() as u64;
    }

    fn fail(&mut self, error: io::Error) {
        self.dropped += 1;
        self.error = Some(error);
    }
}

/// Memory for reads. 1 MB, of which reads touch what they fill.
pub(super) struct Buffers {
    memory: Box<[u8]>,
    metas: [RecvMeta; BATCH],
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { memory: vec![0; READ * BATCH].into(), metas: [RecvMeta::default(); BATCH] }
    }
}

/// What one read gave.
pub(super) struct Batch<'a> {
    buffers: &'a Buffers,
    count: usize,
}

impl Batch<'_> {
    /// Whether there may be more.
    pub(super) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Datagrams that came in a row from one client, in one of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = Datagrams<'_>> {
        let reads = self.buffers.memory.chunks_exact(READ).zip(&self.buffers.metas).take(self.count);
        reads.map(|(memory, meta)| Datagrams { bytes: &memory[..meta.len], size: meta.stride, meta })
    }
}

/// Datagrams of one size, but for the last, which may be smaller.
#[derive(Clone, Copy)]
pub(super) struct Datagrams<'a> {
    pub(super) bytes: &'a [u8],
    size: usize,
    meta: &'a RecvMeta,
}

impl Datagrams<'_> {
    /// How many they are.
    pub(super) fn count(&self) -> u64 {
        if self.size == 0 { 1 } else { (self.bytes.len().div_ceil(self.size)).max(1) as u64 }
    }

    /// Who sent them.
    pub(super) fn client(&self) -> Client {
        Client { address: self.meta.addr, local: self.meta.dst_ip }
    }
}

#[expect(unsafe_code, reason = "neither rustix nor the standard library has this option")]
fn allow_fragments(socket: &UdpSocket) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed for the call, and the option's value is an int, which outlives it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const off).cast(),
            size_of_val(&off) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As `ss -m` shows it.
#[expect(unsafe_code, reason = "neither rustix nor the standard library has this option")]
fn memory_info(socket: &UdpSocket) -> io::Result<[u32; 9]> {
    /// `asm-generic/socket.h`; libc has its values, not the option itself.
    const SO_MEMINFO: libc::c_int = 55;
    let mut info = [0_u32; 9];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call; the kernel writes at most `length` bytes, which `info` has.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Socket {
        Socket::new(UdpSocket::bind("127.0.0.1:0").unwrap(), None).unwrap()
    }

    #[test]
    fn datagrams_of_any_size_stay_what_they_are() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let from = Socket::new(UdpSocket::bind(host).unwrap(), None).unwrap();
            let to = Socket::new(UdpSocket::bind(host).unwrap(), None).unwrap();
            let peer = UdpSocket::bind(host).unwrap();
            let (mut there, mut buffers) = (Buffers::new(), Buffers::new());
            for size in [0, 1, 1_400, 9_000, 65_507] {
                let sent = vec![size as u8; size];
                peer.send_to(&sent, from.socket.local_addr().unwrap()).unwrap();
                let batch = from.read(&mut there).unwrap();
                let datagrams = batch.iter().next().unwrap();
                assert_eq!((datagrams.count(), datagrams.client().address), (1, peer.local_addr().unwrap()));
                let done = from.send(&datagrams, to.socket.local_addr().unwrap(), None);
                assert_eq!((done.datagrams, done.bytes, done.dropped), (1, size as u64, 0), "{:?}", done.error);
                let batch = to.read(&mut buffers).unwrap();
                assert_eq!(batch.iter().map(|datagrams| datagrams.bytes.to_vec()).collect::<Vec<_>>(), [sent]);
                assert!(!batch.is_full());
            }
        }
    }

    #[test]
    fn what_came_in_a_row_leaves_in_a_row_and_is_as_many() {
        let (from, relay, to) = (loopback(), loopback(), loopback());
        let sent = vec![7; 10 * 1_000 + 1];
        let meta = RecvMeta::default();
        let row = Datagrams { bytes: &sent, size: 1_000, meta: &meta };
        assert_eq!(from.send(&row, relay.socket.local_addr().unwrap(), None).datagrams, 11);
        let (mut buffers, mut again) = (Buffers::new(), Buffers::new());
        let batch = relay.read(&mut buffers).unwrap();
        let rows: Vec<_> = batch.iter().collect();
        assert_eq!(rows.iter().map(Datagrams::count).sum::<u64>(), 11);
        for row in &rows {
            relay.send(row, to.socket.local_addr().unwrap(), None);
        }
        assert_eq!(to.read(&mut again).unwrap().iter().map(|row| row.bytes.len()).sum::<usize>(), sent.len());
    }

    #[test]
    fn rows_of_datagrams_that_have_to_be_fragmented_leave_one_by_one() {
        let (from, to) = (loopback(), loopback());
        let sent = vec![7; 200_000];
        let meta = RecvMeta::default();
        let row = Datagrams { bytes: &sent, size: 50_000, meta: &meta };
        let done = from.send(&row, to.socket.local_addr().unwrap(), None);
        assert_eq!((done.datagrams, done.dropped), (4, 0), "{:?}", done.error);
        assert_eq!(to.read(&mut Buffers::new()).unwrap().iter().map(|row| row.count()).sum::<u64>(), 4);
    }

    #[test]
    fn datagrams_that_nobody_reads_are_counted() {
        let (from, to) = (loopback(), Socket::new(UdpSocket::bind("127.0.0.1:0").unwrap(), Some(4_096)).unwrap());
        let meta = RecvMeta::default();
        for _ in 0..100 {
            from.send(
                &Datagrams { bytes: &[0; 1_000], size: 1_000, meta: &meta },
                to.socket.local_addr().unwrap(),
                None,
            );
        }
        assert!(to.overflowed() > 50, "{}", to.overflowed());
    }
}
