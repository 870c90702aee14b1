//! Carrying a connection: the program moves the bytes, this waits for what the program can't do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::program::{Counts, Grant, Joined, Program};
use super::socket;
use crate::dataserver::copy::pool::{CHUNK, Chunk};
use crate::forward::{Held, Way};
use crate::relay::{
    Activity, Carrier, Path, ResetOnDrop, Toll, broken, conclude, end_stream, reach, reset_by_peer, tune,
};

/// How often counters are looked at where nothing else wakes a connection up.
const LOOK: Duration = Duration::from_secs(1);
/// Between looks at what drains.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The kernel has what was received before its end, and hands it out as soon as it has memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session's carrier.
pub(super) struct Joining {
    pub(super) program: Arc<Program>,
    pub(super) path: Arc<Path>,
}

impl Carrier for Joining {
    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let path = &self.path;
            let client = ResetOnDrop::new(client);
            tune(path, &client)?;
            let target = ResetOnDrop::new(reach(path, lane).await?);
            let carried = self.join(&client, &target).await;
            conclude(path, [client, target], carried).await
        })
    }
}

impl Joining {
    async fn join(&self, client: &TcpStream, target: &TcpStream) -> io::Result<()> {
        // Before anything is redirected.
        let bases = [socket::position(target)?, socket::position(client)?];
        let joined = self.program.join(client, target)?;
        let activity = Activity::default();
        let pump = |side, way, source, sink| Pump {
            path: &self.path,
            joined: &joined,
            side,
            way,
            toll: Toll::new(self.path.rate.as_ref(), &activity, way),
            source,
            sink,
            base: bases[side],
            copied: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            held: Held::new(&self.path.meter),
        };
        let there = pump(0, Way::ToTarget, client, target);
        let back = pump(1, Way::ToClient, target, client);
        tokio::select! {
            ends = async { tokio::try_join!(there.run(), back.run()) } => ends.map(drop),
            error = activity.idle_as(self.path.options.idle_timeout, || Ok(there.moved()? + back.moved()?)) => Err(error),
        }
    }
}

/// One way of a connection.
struct Pump<'a> {
    path: &'a Path,
    joined: &'a Joined,
    /// Of the source.
    side: usize,
    way: Way,
    toll: Toll<'a>,
    source: &'a TcpStream,
    sink: &'a TcpStream,
    /// The sink's position before the first byte.
    base: u64,
    /// Bytes that were passed to the source, read here and written to the sink.
    copied: AtomicU64,
    /// Bytes of which the meter knows.
    reported: AtomicU64,
    /// Bytes that waited at the sink, when that was last looked at.
    held: Held<'a>,
}

impl Pump<'_> {
    /// Moves everything, then the end.
    async fn run(&self) -> io::Result<()> {
        // What had been redirected has reached the sink, and nothing more is: what is read now is next.
        let mut in_turn = false;
        let mut pause = SHORTEST_PAUSE;
        self.grant()?;
        loop {
            match self.source.try_io(Interest::READABLE, || self.receive(self.toll.turn())) {
                Ok(chunk) if chunk.is_empty() => return self.finish().await,
                Ok(chunk) => {
                    if !in_turn {
                        self.drain().await?;
                        in_turn = true;
                    }
                    let bytes = chunk.filled().len();
                    self.write(chunk).await?;
                    self.toll.pay(bytes).await;
                    pause = SHORTEST_PAUSE;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let counts = self.settle()?;
            if counts.passed == self.copied() {
                if in_turn {
                    self.grant()?;
                    in_turn = false;
                }
                self.wait(LOOK).await?;
            } else {
                self.wait(pause).await?;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Receives what the program passed, up to so many bytes, into memory of the thread's pool: whoever waits has none. Nothing: the
    /// stream ended.
    fn receive(&self, most: usize) -> io::Result<Chunk> {
        let mut chunk = Chunk::take();
        let bytes = socket::receive(self.source, &mut chunk.spare()[..most.min(CHUNK)])?;
        chunk.fill(bytes);
        Ok(chunk)
    }

    /// Lets the program redirect, from the next byte on that arrives, if all that were passed have been copied.
    fn grant(&self) -> io::Result<()> {
        // Who keeps to a rate copies.
        let redirects = self.joined.is_complete() && self.path.rate.is_none();
        let bytes = if redirects { self.path.options.buffer_size as u64 } else { 0 };
        self.joined.grant(self.side, Grant { bytes, taken: self.copied() })
    }

    fn copied(&self) -> u64 {
        self.copied.load(Relaxed)
    }

    /// Waits until all that was redirected is in the sink's send buffer.
    async fn drain(&self) -> io::Result<()> {
        let mut pause = SHORTEST_PAUSE;
        let mut last = None;
        loop {
            self.settle()?;
            let left = self.held.bytes();
            if left == 0 {
                return Ok(());
            }
            // Half of the time it will take.
            pause = match last.replace(left) {
                Some(before) if before > left => pause.mul_f64(left as f64 / (before - left) as f64 / 2.0),
                _ => pause * 2,
            }
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.pause(pause).await?;
        }
    }

    /// Ends the sink's stream, once all that the source received is there.
    async fn finish(&self) -> io::Result<()> {
        let mut pause = SHORTEST_PAUSE;
        let mut waited = Duration::ZERO;
        loop {
            self.drain().await?;
            let counts = self.settle()?;
            // The end counts as one; after a reset it is not there.
            let moved = counts.redirected + self.copied();
            let Some(left) = socket::received(self.source)?.checked_sub(1 + moved) else { return Err(reset_by_peer()) };
            if left == 0 {
                tracing::debug!(way = ?self.way, ?counts, "a stream ended");
                return end_stream(self.sink);
            }
            match self.receive(CHUNK) {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.write(chunk).await?;
                    waited = Duration::ZERO;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if waited > PATIENCE {
                return Err(io::Error::other(format!("the kernel holds the last {left} bytes of a stream back")));
            }
            self.pause(pause).await?;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Writes what was passed.
    async fn write(&self, mut chunk: Chunk) -> io::Result<()> {
        while !chunk.is_empty() {
            tokio::select! {
                ready = self.sink.writable() => ready?,
                error = self.broken() => return Err(error),
            }
            match self.sink.try_write(chunk.filled()) {
                Ok(written) => {
                    chunk.consume(written);
                    self.copied.fetch_add(written as u64, Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for bytes that were passed, for the end, an error, or for so long.
    async fn wait(&self, longest: Duration) -> io::Result<()> {
        tokio::select! {
            ready = self.source.readable() => ready,
            waited = self.pause(longest) => waited,
        }
    }

    /// Waits for so long, if neither side breaks.
    async fn pause(&self, pause: Duration) -> io::Result<()> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            error = self.broken() => Err(error),
        }
    }

    /// Waits until a side is reset, or the program could not send to it.
    async fn broken(&self) -> io::Error {
        tokio::select! {
            error = broken(self.source) => error,
            error = broken(self.sink) => error,
        }
    }

    /// Bytes that were moved until now.
    fn moved(&self) -> io::Result<u64> {
        Ok(self.counts()?.redirected + self.copied())
    }

    fn counts(&self) -> io::Result<Counts> {
        let counts = self.joined.counts(self.side)?;
        Ok(counts.unwrap_or(Counts { redirected: 0, passed: self.copied() }))
    }

    /// Tells the meter what moved, and what waits at the sink.
    fn settle(&self) -> io::Result<Counts> {
        let counts = self.counts()?;
        let moved = counts.redirected + self.copied();
        let before = self.reported.swap(moved, Relaxed);
        self.path.meter.moved(self.way, moved - before);
        if moved != before || self.held.bytes() > 0 {
            let accepted = socket::position(self.sink)?.saturating_sub(self.base);
            self.held.set(moved.saturating_sub(accepted));
        }
        Ok(counts)
    }
}

impl Drop for Pump<'_> {
    fn drop(&mut self) {
        // A connection that broke: what was moved counts, what waited is gone.
        let _ = self.settle();
    }
}
