//! A socket for QUIC that takes what arrives in small bites.
//!
//! quinn reserves memory for 32 reads of 64 of the largest datagrams each: 13 MB for each endpoint, which a gateway has one of, or more,
//! for each port of each session. The kernel never joins that much: what it hands out with one read (GRO) stays below 64 KB, however many
//! datagrams it is. And whoever reads 32 times before anything is done with it reads more than a processor's second-level cache holds.
//!
//! Measured with sessions of five ports (`benches/setup`, memory and both sides' setup after 200 of them): 53 MB instead of 127, and
//! 5.3 ms instead of 9.8.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::transport::LARGEST_PACKET;

/// The most that a read gives: what UDP's length field allows.
const READ: usize = 65_535;

/// Reads at a time: see the module.
const READS: usize = 8;

/// Reads less at a time than the socket that it is made of.
#[derive(Debug)]
pub(super) struct Narrow(pub(super) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Narrow {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let reads = READS.min(buffers.len()).min(metas.len());
        self.0.poll_recv(context, &mut buffers[..reads], &mut metas[..reads])
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    /// As many of the largest as a read takes, rounded up; more of those that are smaller.
    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments().min(READ.div_ceil(LARGEST_PACKET.into()))
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;

    use quinn::udp::UdpSocketState;
    use quinn::{Runtime, TokioRuntime};

    use super::*;

    #[tokio::test]
    async fn whatever_the_kernel_joins_fits_where_little_is_reserved() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let wide = TokioRuntime.wrap_udp_socket(socket).unwrap();
        let narrow = Arc::new(Narrow(Arc::clone(&wide)));
        let reserved = narrow.max_receive_segments() * usize::from(LARGEST_PACKET);
        assert!((READ..READ + usize::from(LARGEST_PACKET)).contains(&reserved), "{reserved}");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let state = UdpSocketState::new((&sender).into()).unwrap();
        // Small ones and large ones, in rows as long as they may be.
        let mut sent = 0;
        for (size, count) in [(1_200, 54), (1_000, 64), (usize::from(LARGEST_PACKET), 10), (1, 1)] {
            let count = count.min(state.max_gso_segments());
            let contents = vec![7; size * count];
            let transmit = Transmit {
                destination: address,
                ecn: None,
                contents: &contents,
                segment_size: Some(size),
                src_ip: None,
            };
            state.try_send((&sender).into(), &transmit).unwrap();
            sent += contents.len();
        }
        let mut memory = vec![vec![0; reserved]; 32];
        let mut buffers: Vec<_> = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let mut metas = [RecvMeta::default(); 32];
        let mut received = 0;
        while received < sent {
            let reads = poll_fn(|context| narrow.poll_recv(context, &mut buffers, &mut metas)).await.unwrap();
            assert!(reads <= READS);
            received += metas[..reads].iter().map(|meta| meta.len).sum::<usize>();
        }
        assert_eq!(received, sent);
    }
}
