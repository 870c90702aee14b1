//! The worker's side: connects, and serves.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use super::hello::{self, Token};
use super::{Invitation, tls};
use crate::fleet::channel::Channel;
use crate::fleet::worker::{Reach, ServeError, serve_on};
use crate::{ClockOffset, Work};

/// Time to connect to one address.
const CONNECT: Duration = Duration::from_secs(10);
/// Time in which an executor that is there refuses nothing, beside what its answers take.
const PATIENCE: Duration = Duration::from_millis(50);
/// Before it is tried again where the other side hung up: so many may have come at once that this one had to make way.
const AGAIN: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Why a worker did not serve to its end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The token is none.
    #[error("this is no token of a psbench dispatcher")]
    Token,
    /// Nobody is there.
    #[error("cannot connect to the dispatcher at {address}: {source}")]
    Connect {
        /// Where it should be.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Whoever is there does not let this worker in.
    #[error("the dispatcher at {address} does not let this worker in: {reason}")]
    Refused {
        /// Where it is.
        address: String,
        /// What it said.
        reason: String,
    },
    /// It was let in, and could not serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Connects to the [`PilotExecutor`](super::PilotExecutor) that sent the invitation, and serves until it asks for the end.
///
/// `make_work` gets [`PilotOptions::setup`](super::PilotOptions::setup) and how far this host's clock is ahead of the executor's. If the
/// executor vanishes, [`Work::abandoned`] is called and the process exits within about 2 s, as [`serve`](crate::worker::serve) has it.
///
/// # Errors
///
/// As their descriptions say.
pub fn connect(
    invitation: &Invitation,
    make_work: impl FnOnce(Bytes, ClockOffset) -> Result<Arc<dyn Work>, String>,
) -> Result<(), ConnectError> {
    let address = &invitation.address;
    let (token, certificate) = match invitation.token.split_once('-') {
        None => (invitation.token.as_str(), None),
        Some((token, certificate)) => (token, Some(hello::unhex(certificate).ok_or(ConnectError::Token)?)),
    };
    let token = Token::decode(token).ok_or(ConnectError::Token)?;
    let cannot_connect = |source| ConnectError::Connect { address: address.clone(), source };
    let refused = |reason: String| ConnectError::Refused { address: address.clone(), reason };
    let meet = || Met::dial(address, certificate.clone(), &token);
    let mut met = meet().map_err(cannot_connect)?;
    for pause in AGAIN {
        if met.offset.is_ok() {
            break;
        }
        thread::sleep(pause);
        // Where nobody is there any more, that it hung up before tells more.
        let Ok(again) = meet() else { break };
        met = again;
    }
    let Met { channel, relay, offset } = met;
    let end = channel.try_clone().map_err(cannot_connect)?;
    let offset = offset
        .map_err(|error| refused(format!("it hung up ({error})")))?
        .map_err(|reason| refused(reason.to_owned()))?;
    let patience = PATIENCE + 4 * Duration::from_nanos(offset.error_ns).min(Duration::from_secs(1));
    serve_on(channel, Reach::Network { patience }, |setup| make_work(setup, offset))?;
    if let Some(relay) = relay {
        // What was told last is still on its way.
        end.shut_down(Shutdown::Write);
        let _ = relay.join();
    }
    Ok(())
}

/// Somebody was there.
struct Met {
    channel: Channel,
    relay: Option<JoinHandle<()>>,
    /// What was made of the offer; an error where it hung up.
    offset: io::Result<Result<ClockOffset, &'static str>>,
}

impl Met {
    fn dial(address: &str, certificate: Option<Vec<u8>>, token: &Token) -> io::Result<Self> {
        let socket = dial(address)?;
        let (channel, relay) = match certificate {
            None => (Channel::network(socket)?, None),
            Some(certificate) => {
                let relay = tls::connect(socket, certificate)?;
                (relay.channel, Some(relay.thread))
            }
        };
        let offset = hello::offer(&channel, token);
        Ok(Self { channel, relay, offset })
    }
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
