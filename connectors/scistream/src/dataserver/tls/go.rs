//! What the consumer's gateway says first on each connection, before anything of the stream.
//!
//! Connections may be made ahead of time. The producer's gateway connects to the application only once it is told that somebody is there:
//! by a record of one byte, the version of all this.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handshake::Session;
use super::record::{Content, HEADER, RecordError, TRAILER, record_len};
use super::stream::{read_some, write_all};

/// What is agreed on here. It goes with the name that the handshake knows it by.
const VERSION: u8 = 1;
/// How a handshake names it (ALPN).
pub(crate) const PROTOCOL: &[u8] = b"psbench-tls/1";

/// How long a connection is held for somebody to come. The other gateway replaces those that it made ahead of time earlier.
const PATIENCE: Duration = Duration::from_secs(600);
/// The other gateway holds those for so long.
pub(crate) const FRESH: Duration = Duration::from_secs(300);

/// Says that somebody is there.
///
/// # Errors
/// The connection is gone.
pub(crate) async fn say(stream: &TcpStream, session: &mut Session) -> io::Result<()> {
    let mut record = [0; HEADER + 1 + TRAILER];
    record[HEADER] = VERSION;
    session.sealer.seal(&mut record, 1)?;
    write_all(stream, &record).await
}

/// Waits until somebody is there. What follows is left in `early`.
///
/// # Errors
/// The connection is gone, or something else is said, or nobody came for a long time.
pub(crate) async fn hear(stream: &TcpStream, session: &mut Session) -> io::Result<()> {
    timeout(PATIENCE, hear_at_last(stream, session)).await?
}

async fn hear_at_last(stream: &TcpStream, session: &mut Session) -> io::Result<()> {
    /// What is read along with it is little: the stream has a place of its own.
    const READ: usize = 4 << 10;
    let early = &mut session.early;
    let len = loop {
        match record_len(early)? {
            Some(len) if early.len() >= len => break len,
            Some(len) if len > READ => return Err(RecordError::Unexpected(0).into()),
            _ => {}
        }
        let before = early.len();
        early.resize(before + READ, 0);
        let read = read_some(stream, &mut early[before..]).await?;
        early.truncate(before + read);
        if read == 0 {
            return Err(RecordError::Truncated.into());
        }
    };
    let content = session.opener.open(early, 0, 0..len)?;
    match (content, early[0]) {
        (Content::Data(1), VERSION) => {}
        (Content::Data(_), version) => {
            let what = format!("the other gateway speaks version {version} of what psbench's tls speaks as {VERSION}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        // Those that were made ahead of time and not needed.
        (Content::End, _) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "nobody came")),
        (Content::KeyUpdate { .. }, _) => return Err(RecordError::Unexpected(22).into()),
    }
    early.drain(..len);
    Ok(())
}
