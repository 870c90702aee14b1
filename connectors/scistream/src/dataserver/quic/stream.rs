//! A connection of TCP and the QUIC stream that carries it between the gateways, at either of them.
//!
//! | of TCP | of QUIC (RFC 9000) |
//! |---|---|
//! | the end of the stream (FIN) | the end of the stream (FIN, §3.3) |
//! | a reset | both `RESET_STREAM` (§19.4) and `STOP_SENDING` (§19.5) |
//! | its receiver's window | the stream's flow control (§4.1) |

use std::future::pending;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::future::try_join;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::chunk::Chunks;
use crate::Role;
use crate::forward::Way;
use crate::relay::{Activity, Path, ResetOnDrop, Toll, broken, conclude, end_stream, reset_by_peer};

/// Whoever is at the other end of the TCP connection reset it, or the session ended, or there was no connection to be had.
pub(super) const ABORTED: VarInt = VarInt::from_u32(1);

/// Chunks of a stream that are written by one system call: 64 packets.
const GATHERED: usize = 64;

/// Bytes of the packets that every path carries (RFC 9000 §14).
const SMALLEST_PACKET: usize = 1200;

/// A stream that is reset in both directions when it is dropped, a task's cancellation included, unless it came to its end.
#[derive(Debug)]
pub(super) struct Stream {
    send: SendStream,
    recv: RecvStream,
    whole: bool,
}

impl Stream {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, whole: false }
    }

    /// Its two directions.
    pub(super) fn parts(&mut self) -> (&mut SendStream, &mut RecvStream) {
        (&mut self.send, &mut self.recv)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.whole {
            // Dropping a sender would end its stream, as though it were whole.
            let _ = self.send.reset(ABORTED);
            let _ = self.recv.stop(ABORTED);
        }
    }
}

/// Carries a connection to the ends of both of its streams, or to a reset of both.
pub(super) async fn carry(tcp: ResetOnDrop, mut stream: Stream, path: &Path, chunks: &Arc<Chunks>) -> io::Result<()> {
    let mut tcp = tcp;
    let activity = Activity::default();
    let carried = {
        let (send, recv) = stream.parts();
        let carrying = Carrying { path, activity: &activity };
        let tcp: &mut TcpStream = &mut tcp;
        let (reader, writer) = tcp.split();
        let watched: &TcpStream = writer.as_ref();
        tokio::select! {
            // Whoever saw all of it and then resets takes nothing back.
            biased;
            carried = try_join(carrying.send(reader, send, chunks), carrying.receive(recv, watched)) => carried.map(drop),
            error = broken(watched) => Err(error),
            error = activity.idle(path.options.idle_timeout) => Err(error),
        }
    };
    stream.whole = carried.is_ok();
    conclude(path, [tcp], carried).await
}

#[derive(Clone, Copy)]
struct Carrying<'a> {
    path: &'a Path,
    activity: &'a Activity,
}

impl Carrying<'_> {
    async fn send(
        self,
        mut tcp: tokio::net::tcp::ReadHalf<'_>,
        stream: &mut SendStream,
        chunks: &Arc<Chunks>,
    ) -> io::Result<()> {
        let way = match self.path.role {
            Role::Consumer => Way::ToTarget,
            Role::Producer => Way::ToClient,
        };
        let toll = Toll::new(self.path.rate.as_ref(), self.activity, way);
        let mut stopped = pin!(stream.stopped());
        loop {
            // Only then is memory taken, so that a connection that rests has none.
            tokio::select! {
                ready = tcp.readable() => ready?,
                _ = &mut stopped => return Err(reset_by_peer()),
            }
            let mut chunk = chunks.take();
            let read = tokio::select! {
                read = tcp.read(chunk.space(toll.turn())) => read?,
                _ = &mut stopped => return Err(reset_by_peer()),
            };
            if read == 0 {
                break;
            }
            self.activity.note();
            stream.write_chunk(chunk.freeze(read)).await?;
            self.path.meter.moved(way, read as u64);
            toll.pay(read).await;
        }
        stream.finish()?;
        Ok(())
    }

    async fn receive(self, stream: &mut RecvStream, tcp: &TcpStream) -> io::Result<()> {
        let way = match self.path.role {
            Role::Consumer => Way::ToClient,
            Role::Producer => Way::ToTarget,
        };
        let toll = Toll::new(self.path.rate.as_ref(), self.activity, way);
        let most = (toll.turn() / SMALLEST_PACKET).clamp(1, GATHERED);
        let mut chunks = [const { Bytes::new() }; GATHERED];
        while let Some(read) = stream.read_chunks(&mut chunks[..most]).await? {
            self.activity.note();
            let bytes = chunks[..read].iter().map(Bytes::len).sum::<usize>();
            write(&mut chunks[..read], tcp, stream).await?;
            self.path.meter.moved(way, bytes as u64);
            toll.pay(bytes).await;
        }
        end_stream(tcp)
    }
}

/// Writes chunks to a connection, and drops each once it is written. Fails early if the stream that they came from is reset.
async fn write(mut chunks: &mut [Bytes], tcp: &TcpStream, stream: &mut RecvStream) -> io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); GATHERED];
        for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
            *slice = IoSlice::new(chunk);
        }
        match tcp.try_write_vectored(&slices[..chunks.len()]) {
            Ok(written) => chunks = drop_written(chunks, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::select! {
                ready = tcp.writable() => ready?,
                error = aborted(stream) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn drop_written(chunks: &mut [Bytes], mut written: usize) -> &mut [Bytes] {
    let mut whole = 0;
    for chunk in chunks.iter_mut() {
        if written < chunk.len() {
            chunk.advance(written);
            break;
        }
        written -= chunk.len();
        *chunk = Bytes::new();
        whole += 1;
    }
    &mut chunks[whole..]
}

/// Fails when the stream is reset by the other gateway.
async fn aborted(stream: &mut RecvStream) -> io::Error {
    match stream.received_reset().await {
        Ok(Some(_)) => reset_by_peer(),
        // All of it is here.
        Ok(None) => pending().await,
        Err(error) => io::Error::other(error),
    }
}
