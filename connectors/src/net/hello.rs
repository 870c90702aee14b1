//! How a connection begins.
//!
//! ```text
//! client → server  hello    magic:4 version:u8 secret:16
//! server → client  verdict  u8
//! ```

use std::io::{self, IoSlice};

use super::{PeerAddress, Socket};
use crate::{ConnectorError, Secret, is_loopback};

/// Bytes of a hello.
pub(super) const HELLO_LEN: usize = 4 + 1 + 16;

/// What is spoken after the hello.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// The connector that speaks it.
    pub(crate) name: &'static str,
    /// The first bytes that a client sends.
    pub(crate) magic: [u8; 4],
    /// Changes with what is said.
    pub(crate) version: u8,
}

/// What a server makes of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    Welcome = 0,
    WrongSecret = 1,
    WrongVersion = 2,
}

impl Verdict {
    fn decode(byte: u8) -> Option<Self> {
        [Self::Welcome, Self::WrongSecret, Self::WrongVersion].into_iter().find(|verdict| *verdict as u8 == byte)
    }
}

impl Protocol {
    fn hello(&self, secret: &Secret) -> [u8; HELLO_LEN] {
        let mut hello = [0; HELLO_LEN];
        hello[..4].copy_from_slice(&self.magic);
        hello[4] = self.version;
        hello[5..].copy_from_slice(&secret.0);
        hello
    }

    /// `None` for what is no hello at all, and deserves no answer.
    pub(super) fn judge(&self, hello: &[u8; HELLO_LEN], secret: &Secret) -> Option<Verdict> {
        let (magic, rest) = hello.split_first_chunk::<4>()?;
        let (version, offered) = rest.split_first()?;
        if *magic != self.magic {
            None
        } else if *version != self.version {
            Some(Verdict::WrongVersion)
        } else if equal_in_constant_time(offered, &secret.0) {
            Some(Verdict::Welcome)
        } else {
            Some(Verdict::WrongSecret)
        }
    }
}

/// Compares all bytes whatever the first ones are, so that the time taken tells nothing about the secret.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    a.len() == b.len() && difference == 0
}

/// Connects and shows the secret. `connector`: as errors name it.
pub(crate) fn greet(
    protocol: Protocol,
    address: &PeerAddress,
    secret: &Secret,
    connector: &str,
) -> Result<Socket, ConnectorError> {
    let socket = Socket::connect(address).map_err(|source| {
        let way_around =
            if is_elsewhere(address) { " --ps-connector scistream leads there through gateways" } else { "" };
        let action = format!(
            "connect (is the process that stored the objects still running, and reachable from this host?{way_around})"
        );
        ConnectorError::Io { connector: connector.into(), action, source }
    })?;
    be_let_in(protocol, socket, secret, connector)
}

fn is_elsewhere(address: &PeerAddress) -> bool {
    matches!(address, PeerAddress::Tcp { host, .. } if !is_loopback(host))
}

/// Shows the secret over a connection that was made.
pub(crate) fn be_let_in(
    protocol: Protocol,
    socket: Socket,
    secret: &Secret,
    connector: &str,
) -> Result<Socket, ConnectorError> {
    let mut verdict = [0];
    socket
        .send(&mut [IoSlice::new(&protocol.hello(secret))])
        .and_then(|()| io::Read::read_exact(&mut &socket, &mut verdict))
        .map_err(|source| {
            let action = format!(
                "be let in (no psbench {} is listening there, or it serves as many connections as it will)",
                protocol.name
            );
            ConnectorError::Io { connector: connector.into(), action, source }
        })?;
    let reason = match Verdict::decode(verdict[0]) {
        Some(Verdict::Welcome) => return Ok(socket),
        Some(Verdict::WrongSecret) => "the secret is wrong: is the proxy from another run?".into(),
        Some(Verdict::WrongVersion) => "the server speaks another version: use one psbench everywhere".into(),
        None => format!("no psbench {}: it answered 0x{:02x}", protocol.name, verdict[0]),
    };
    Err(ConnectorError::Protocol { connector: connector.into(), action: "be let in".into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: Protocol = Protocol { name: "test", magic: *b"PSBT", version: 3 };

    #[test]
    fn hellos_are_judged() {
        let secret = Secret([7; 16]);
        let good = PROTOCOL.hello(&secret);
        assert_eq!(PROTOCOL.judge(&good, &secret), Some(Verdict::Welcome));
        assert_eq!(PROTOCOL.judge(&good, &Secret([8; 16])), Some(Verdict::WrongSecret));
        let mut other_version = good;
        other_version[4] += 1;
        assert_eq!(PROTOCOL.judge(&other_version, &secret), Some(Verdict::WrongVersion));
        assert_eq!(PROTOCOL.judge(b"GET / HTTP/1.1\r\nHost:", &secret), None);
        for verdict in [Verdict::Welcome, Verdict::WrongSecret, Verdict::WrongVersion] {
            assert_eq!(Verdict::decode(verdict as u8), Some(verdict));
        }
        assert_eq!(Verdict::decode(9), None);
    }

    #[test]
    fn a_way_around_is_told_to_whoever_is_elsewhere() {
        let tcp = |host: &str| PeerAddress::Tcp { host: host.into(), port: 1 };
        // No host has this name.
        for (address, told) in
            [(tcp("gw.invalid"), true), (tcp("127.0.0.1"), false), (PeerAddress::Unix("@psbench-none".into()), false)]
        {
            let error = greet(PROTOCOL, &address, &Secret::default(), "peer there").unwrap_err().to_string();
            assert!(error.contains("still running"), "{error}");
            assert_eq!(error.contains("--ps-connector scistream"), told, "{error}");
        }
    }
}
