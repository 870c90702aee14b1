//! One stream over several connections between two gateways of ours, for paths whose hosts are not tuned for them: each connection has a
//! window of its own.
//!
//! The consumer's gateway makes them, the producer's gathers them; each begins with a [`preamble`] that only whoever knows the
//! session's secret can make. That keeps strangers out, not those who read along: like everything of `copy` it is not encrypted, and a
//! preamble that was overheard can be sent again.
//!
//! Then each connection carries [frames](frame), both ways. The sender gives the next part of the stream to whichever connection has
//! room, and keeps little unsent in each of them (128 KiB), so that a slow one gets less. The receiver puts them in [order] and
//! holds up to the buffer's size of what came too early.
//!
//! It can't come to a standstill while the receiving application reads. Positions only grow on each connection. So whatever precedes
//! the awaited byte on its connection comes before it in the stream as well, and was handed on already: the awaited byte is the next
//! one to be read from its connection, or still on its way. For it there is always room, whatever else is held. The ways don't wait for
//! each other.
//!
//! A whole stream ends with a frame on each connection, then with the end of each. Anything else is a reset: if one connection is lost,
//! or an application resets its own, all are reset, as one would be.

pub mod frame;
mod gather;
mod join;
pub mod order;
pub mod preamble;
mod split;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use ring::hmac::Key;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::gather::Gathering;
use self::join::Join;
use self::preamble::Preamble;
use self::split::Split;
use crate::Role;
use crate::forward::Way;
use crate::relay::{Activity, Carrier, Path, ResetOnDrop, conclude, connect, pump_all, reach, tune};

/// How long a connection may take to say whose it is, once it has begun to, and the others of its stream to come.
const GATHER: Duration = Duration::from_secs(10);

/// How long a connection may say nothing: longer than the other gateway keeps one that it made ahead of time.
const SILENCE: Duration = Duration::from_secs(60);

/// Connections of a session that may be silent for so long. More have as long as those that speak, so strangers keep nobody out.
const MOST_SILENT: usize = 1024;

/// What a connection may have that was not sent yet, in bytes, before others get the next part.
const UNSENT: libc::c_int = 128 << 10;

/// Carries streams over several connections each.
pub(super) struct Striping {
    path: Arc<Path>,
    key: Key,
    gathering: Gathering,
    /// Places of those that say nothing yet.
    silent: Semaphore,
}

impl Striping {
    pub(super) fn new(path: Arc<Path>) -> Self {
        let key = preamble::key(&path.secret);
        Self { path, key, gathering: Gathering::default(), silent: Semaphore::new(MOST_SILENT) }
    }

    /// At the consumer's gateway.
    async fn go(&self, client: TcpStream, lane: usize) -> io::Result<()> {
        let path = &*self.path;
        let client = ResetOnDrop::new(client);
        tune(path, &client)?;
        // At most `MOST`.
        let count = path.options.stripes as u8;
        let mut stream = [0; 16];
        getrandom(&mut stream, GetRandomFlags::empty())?;
        let stripes = try_join_all((0..count).map(async |index| {
            let mut stripe = ResetOnDrop::new(reach(path, lane).await?);
            keep_little_unsent(&*stripe)?;
            stripe.write_all(&Preamble { stream, index, count }.encode(&self.key)).await?;
            io::Result::Ok(stripe)
        }));
        let stripes = stripes.await?;
        let activity = Activity::default();
        let there = Split::new(path, &activity, Way::ToTarget, &client, stripes.iter().map(Deref::deref));
        let back = Join::new(path, &activity, Way::ToClient, stripes.iter().map(Deref::deref), &client);
        let carried = pump_all(path, &activity, &ends(&client, &stripes), there, back).await;
        conclude(path, stripes.into_iter().chain([client]), carried).await
    }

    /// At the producer's gateway.
    async fn come(&self, stripe: TcpStream, lane: usize) -> io::Result<()> {
        let path = &*self.path;
        let mut stripe = ResetOnDrop::new(stripe);
        tune(path, &stripe)?;
        keep_little_unsent(&*stripe)?;
        let place = self.silent.try_acquire();
        let mut bytes = [0; preamble::LEN];
        let (first, rest) = bytes.split_at_mut(1);
        timeout(if place.is_ok() { SILENCE } else { GATHER }, stripe.read_exact(first)).await??;
        drop(place);
        let until = Instant::now() + GATHER;
        timeout_at(until, stripe.read_exact(rest)).await??;
        let preamble = Preamble::decode(&bytes, &self.key);
        let preamble = preamble.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let Some(stripes) = self.gathering.join(lane, preamble, stripe, until).await? else { return Ok(()) };
        let target = ResetOnDrop::new(connect(path, &path.targets[lane]).await?);
        let activity = Activity::default();
        let there = Join::new(path, &activity, Way::ToTarget, stripes.iter().map(Deref::deref), &target);
        let back = Split::new(path, &activity, Way::ToClient, &target, stripes.iter().map(Deref::deref));
        let carried = pump_all(path, &activity, &ends(&target, &stripes), there, back).await;
        conclude(path, stripes.into_iter().chain([target]), carried).await
    }
}

impl Carrier for Striping {
    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            match self.path.role {
                Role::Consumer => self.go(client, lane).await,
                Role::Producer => self.come(client, lane).await,
            }
        })
    }
}

fn ends<'a>(application: &'a TcpStream, stripes: &'a [ResetOnDrop]) -> Vec<&'a TcpStream> {
    stripes.iter().map(Deref::deref).chain([application]).collect()
}

#[expect(unsafe_code, reason = "rustix does not have this option")]
fn keep_little_unsent(stripe: impl AsFd) -> io::Result<()> {
    let most = UNSENT;
    // SAFETY: the descriptor is borrowed for the call, and the option's value is an int, which outlives it.
    let done = unsafe {
        libc::setsockopt(
            stripe.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const most).cast(),
            size_of_val(&most) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
