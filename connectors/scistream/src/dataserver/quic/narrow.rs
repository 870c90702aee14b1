//! A socket for QUIC that takes what arrives in small bites, and gives no more at once than the kernel takes.
//!
//! quinn reserves memory for 32 reads of 64 of the largest datagrams each: 13 MB for each endpoint, which a gateway has one of, or more,
//! for each port of each session. The kernel never joins that much: what it hands out with one read (GRO) stays below 64 KB, however many
//! datagrams it is. And whoever reads 32 times before anything is done with it reads more than a processor's second-level cache holds.
//!
//! Measured with sessions of five ports (`benches/setup`, memory and both sides' setup after 200 of them): 53 MB instead of 127, and
//! 5.3 ms instead of 9.8.
//!
//! quinn also sends ten packets with one system call, however large they are, and the kernel refuses what is above 64 KB.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::transport::LARGEST_PACKET;

/// The most that a read gives: what UDP's length field allows.
const READ: usize = 65_535;

/// The most that is sent with one system call, in bytes: one datagram to the kernel until it is cut (GSO), less headers of IPv6 and UDP.
const ROW: usize = 65_535 - 48;

/// Reads at a time: see the module.
const READS: usize = 8;

/// Reads less at a time than the socket that it is made of.
#[derive(Debug)]
pub(super) struct Narrow {
    socket: Arc<dyn AsyncUdpSocket>,
    /// The largest of the packets that were sent in rows, in bytes.
    largest: AtomicUsize,
}

impl Narrow {
    /// Makes it of a socket.
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { socket, largest: AtomicUsize::new(1) }
    }
}

impl AsyncUdpSocket for Narrow {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = transmit.segment_size else { return self.socket.try_send(transmit) };
        self.largest.fetch_max(size, Relaxed);
        // Several rows only where packets have just become larger. What is sent again because the socket took one of them does no harm.
        let row = (ROW / size).max(1) * size;
        transmit.contents.chunks(row).try_for_each(|contents| {
            let segment_size = (contents.len() > size).then_some(size);
            self.socket.try_send(&Transmit { contents, segment_size, ..*transmit })
        })
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let reads = READS.min(buffers.len()).min(metas.len());
        self.socket.poll_recv(context, &mut buffers[..reads], &mut metas[..reads])
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments().min(ROW / self.largest.load(Relaxed)).max(1)
    }

    /// As many of the largest as a read takes, rounded up; more of those that are smaller.
    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments().min(READ.div_ceil(LARGEST_PACKET.into()))
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;

    use quinn::{Runtime, TokioRuntime};

    use super::*;

    #[tokio::test]
    async fn whatever_the_kernel_joins_fits_where_little_is_reserved() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let wide = TokioRuntime.wrap_udp_socket(socket).unwrap();
        let narrow = Arc::new(Narrow::new(Arc::clone(&wide)));
        let reserved = narrow.max_receive_segments() * usize::from(LARGEST_PACKET);
        assert!((READ..READ + usize::from(LARGEST_PACKET)).contains(&reserved), "{reserved}");
        let sender = TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let sender = Arc::new(Narrow::new(sender));
        let mut poller = Arc::clone(&sender).create_io_poller();
        poll_fn(|context| poller.as_mut().poll_writable(context)).await.unwrap();
        let mut memory = vec![vec![0; reserved]; 32];
        let mut buffers: Vec<_> = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let mut metas = [RecvMeta::default(); 32];
        // Small ones and large ones, in rows as long as they may be, and longer.
        for (size, count) in [(1_200, 54), (1_000, 64), (usize::from(LARGEST_PACKET), 10), (1, 1)] {
            let count = count.min(sender.max_transmit_segments());
            let contents = vec![7; size * count];
            let segment_size = (count > 1).then_some(size);
            let transmit =
                Transmit { destination: address, ecn: None, contents: &contents, segment_size, src_ip: None };
            sender.try_send(&transmit).unwrap();
            let mut received = 0;
            while received < contents.len() {
                let reads = poll_fn(|context| narrow.poll_recv(context, &mut buffers, &mut metas)).await.unwrap();
                assert!(reads <= READS);
                received += metas[..reads].iter().map(|meta| meta.len).sum::<usize>();
            }
            assert_eq!(received, contents.len());
        }
        assert!(sender.max_transmit_segments() <= 4);
    }
}
