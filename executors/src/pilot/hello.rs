//! How a worker's connection begins.
//!
//! ```text
//! worker → door  magic:4 version:1 token:32
//! door → worker  verdict:1
//! worker → door  length:2 then so many bytes of text: host, pid, name of its clock, a line each
//! door → worker  1, any number of times, each answered by the worker's clock:8
//! door → worker  0 ahead:8 error:8
//! ```
//!
//! Numbers are little-endian. What follows are the frames of worker processes.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::ClockOffset;
use crate::clock::{self, Bounds};
use crate::fleet::channel::Channel;

/// Time for the whole of it.
const LIMIT: Duration = Duration::from_secs(10);
/// Time for a stranger to say who it is.
const STRANGER: Duration = Duration::from_secs(5);
const MAGIC: [u8; 4] = *b"PSBW";
/// Changes with the frames, too.
const VERSION: u8 = 1;
const TOKEN: usize = 32;
/// Longest introduction, in bytes.
const INTRODUCTION: usize = 1024;
/// Questions for the time: the quickest answer tells the most.
const QUESTIONS: usize = 8;
const ASK: u8 = 1;
const DONE: u8 = 0;

/// What lets a worker in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token([u8; TOKEN]);

impl Token {
    pub(super) fn random() -> io::Result<Self> {
        let mut token = [0; TOKEN];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(token))
    }

    pub(super) fn encode(&self) -> String {
        hex(&self.0)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        Some(Self(unhex(text)?.try_into().ok()?))
    }

    /// Compares all bytes whatever the first ones are, so that the time taken tells nothing.
    fn is(&self, offered: &[u8; TOKEN]) -> bool {
        let pairs = self.0.iter().zip(offered);
        pairs.fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b))) == 0
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

/// What is made of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    Welcome = 0,
    WrongToken = 1,
    WrongVersion = 2,
    /// All places are taken.
    Late = 3,
}

impl Verdict {
    fn decode(byte: u8) -> Option<Self> {
        [Self::Welcome, Self::WrongToken, Self::WrongVersion, Self::Late].into_iter().find(|known| *known as u8 == byte)
    }
}

/// A worker that was let in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) host: String,
    /// Whether that is another host than this one.
    pub(super) elsewhere: bool,
    pub(super) pid: u32,
    /// `None` where its clock is this host's.
    pub(super) clock: Option<ClockOffset>,
}

/// The door's side. `admit` judges who has the token. `None` for who is not let in.
pub(super) fn receive(
    channel: &Channel,
    token: &Token,
    admit: impl FnOnce() -> Verdict,
) -> io::Result<Result<Guest, Verdict>> {
    let mut line = Line { channel, until: Instant::now() + STRANGER };
    let [m0, m1, m2, m3, version] = line.read()?;
    let offered: [u8; TOKEN] = line.read()?;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(io::Error::new(ErrorKind::InvalidData, "not a psbench worker"));
    }
    let verdict = match version {
        VERSION if token.is(&offered) => admit(),
        VERSION => Verdict::WrongToken,
        _ => Verdict::WrongVersion,
    };
    channel.write_all(&[verdict as u8])?;
    if verdict != Verdict::Welcome {
        return Ok(Err(verdict));
    }
    line.until = Instant::now() + LIMIT;
    let length = usize::from(u16::from_le_bytes(line.read()?));
    if length > INTRODUCTION {
        return Err(io::Error::new(ErrorKind::InvalidData, "an introduction that is too long"));
    }
    let mut text = vec![0; length];
    line.fill(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.replace(char::is_control, " "));
    let (Some(host), Some(Ok(pid))) = (lines.next(), lines.next().map(|pid| pid.parse())) else {
        return Err(io::Error::new(ErrorKind::InvalidData, "an introduction without a host and a pid"));
    };
    let (here, there) = (clock::identity(), lines.next().unwrap_or_default());
    let clock = if here.is_empty() || there != here { Some(ask_the_time(&mut line)?) } else { None };
    let ClockOffset { ahead_ns, error_ns } = clock.unwrap_or_default();
    channel.write_all(&[&[DONE][..], &ahead_ns.to_le_bytes(), &error_ns.to_le_bytes()].concat())?;
    channel.set_read_timeout(None)?;
    Ok(Ok(Guest { host, elsewhere: !clock::same_host(&there), pid, clock }))
}

fn ask_the_time(line: &mut Line<'_>) -> io::Result<ClockOffset> {
    let mut bounds: Option<Bounds> = None;
    for _ in 0..QUESTIONS {
        let before = clock::now();
        line.channel.write_all(&[ASK])?;
        let there = u64::from_le_bytes(line.read()?);
        let answer = Bounds::new(before, there, there, clock::now());
        bounds = Some(bounds.map_or(answer, |bounds| bounds.and(answer)));
    }
    Ok(bounds.map(Bounds::estimate).unwrap_or_default())
}

/// The worker's side; an inner error tells why it is not let in.
pub(super) fn offer(channel: &Channel, token: &Token) -> io::Result<Result<ClockOffset, &'static str>> {
    let mut line = Line { channel, until: Instant::now() + LIMIT };
    channel.write_all(&[&MAGIC[..], &[VERSION], &token.0].concat())?;
    let [verdict] = line.read()?;
    match Verdict::decode(verdict) {
        Some(Verdict::Welcome) => {}
        Some(Verdict::WrongToken) => return Ok(Err("its token is another: is the invitation from another run?")),
        Some(Verdict::WrongVersion) => return Ok(Err("it speaks another version: use one psbench everywhere")),
        Some(Verdict::Late) => return Ok(Err("all places are taken")),
        None => return Ok(Err("it is no psbench")),
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut text = format!("{host}\n{}\n{}", std::process::id(), clock::identity()).into_bytes();
    text.truncate(INTRODUCTION);
    // Just cut to less.
    channel.write_all(&(text.len() as u16).to_le_bytes())?;
    channel.write_all(&text)?;
    while line.read::<1>()? == [ASK] {
        channel.write_all(&clock::now().to_le_bytes())?;
    }
    let offset = ClockOffset { ahead_ns: i64::from_le_bytes(line.read()?), error_ns: u64::from_le_bytes(line.read()?) };
    channel.set_read_timeout(None)?;
    Ok(Ok(offset))
}

/// A limit on the whole of what is read, not on each read: a stranger may send byte by byte.
struct Line<'a> {
    channel: &'a Channel,
    until: Instant,
}

impl Line<'_> {
    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.channel.set_read_timeout(Some(left))?;
            match self.channel.read(bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn meet(
        offered: &Token,
        wanted: &Token,
        admit: Verdict,
    ) -> (Result<Guest, Verdict>, Result<ClockOffset, &'static str>) {
        let (door, worker) = UnixStream::pair().unwrap();
        let (door, worker) = (Channel::from(door), Channel::from(worker));
        thread::scope(|scope| {
            let offering = scope.spawn(|| offer(&worker, offered).unwrap());
            (receive(&door, wanted, || admit).unwrap(), offering.join().unwrap())
        })
    }

    #[test]
    fn who_has_the_token_is_let_in() {
        let token = Token::random().unwrap();
        let (guest, offset) = meet(&token, &token, Verdict::Welcome);
        let guest = guest.unwrap();
        assert_eq!((guest.pid, guest.clock), (std::process::id(), None), "of this host");
        assert_eq!(offset, Ok(ClockOffset::default()));
        assert_eq!(Token::decode(&token.encode()).map(|token| token.0), Some(token.0));
    }

    #[test]
    fn others_are_told_why_not() {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        let (verdict, told) = meet(&other, &token, Verdict::Welcome);
        assert_eq!((verdict.unwrap_err(), told.unwrap_err().contains("token")), (Verdict::WrongToken, true));
        let (verdict, told) = meet(&token, &token, Verdict::Late);
        assert_eq!((verdict.unwrap_err(), told.unwrap_err()), (Verdict::Late, "all places are taken"));
    }

    #[test]
    fn who_says_something_else_gets_no_answer() {
        let (door, stranger) = UnixStream::pair().unwrap();
        let stranger = Channel::from(stranger);
        stranger.write_all(b"GET / HTTP/1.1\r\nHost: localhost:12345\r\n\r\n").unwrap();
        let error = receive(&door.into(), &Token::random().unwrap(), || Verdict::Welcome).unwrap_err();
        assert_eq!(error.to_string(), "not a psbench worker");
        // What it said was not read to the end, which may show as a reset.
        assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)));
    }

    #[test]
    fn the_time_elsewhere_is_estimated() {
        let (door, worker) = UnixStream::pair().unwrap();
        let (door, worker) = (Channel::from(door), Channel::from(worker));
        let offset = thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..QUESTIONS {
                    worker.read(&mut [0]).unwrap();
                    worker.write_all(&(clock::now() + 1_000_000_000).to_le_bytes()).unwrap();
                }
            });
            ask_the_time(&mut Line { channel: &door, until: Instant::now() + LIMIT }).unwrap()
        });
        let off = offset.ahead_ns.abs_diff(1_000_000_000);
        assert!(off <= offset.error_ns && offset.error_ns < 100_000_000, "{offset:?}");
    }
}
