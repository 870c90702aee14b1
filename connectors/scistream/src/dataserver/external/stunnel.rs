//! stunnel: TLS between the gateways, whose key both know (PSK); a thread for each connection.
//!
//! Client at the consumer's gateway, server at the producer's, so that the way between them is encrypted. Where the user client handed
//! out no random secret, the key is what the reference implementation takes: the bytes of the session's UUID.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::program::{Prepared, Program, Ready, Workspace, find};
use super::{NEVER, write_private};
use crate::Role;
use crate::dataserver::DataServerType;
use crate::forward::{ForwardPlan, ReservedPort, Secret};
use crate::relay::Path;

const CONFIGURATION: &str = "stunnel.conf";
const KEY: &str = "key.psk";
/// The reference's name for whoever has the key.
const IDENTITY: &str = "client1";
/// Of TLS 1.2: only those that take the key, and encrypt. "PSK" for short would admit ones that don't.
const CIPHERS: &str = "PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305:ECDHE-PSK-CHACHA20-POLY1305:\
                       ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-CBC-SHA256";
/// Of TLS 1.3: keys of this kind go with SHA-256 (RFC 8446, 4.2.11).
const CIPHERSUITES: &str = "TLS_AES_128_GCM_SHA256";

/// stunnel.
pub(super) struct Stunnel;

impl Program for Stunnel {
    fn kind(&self) -> DataServerType {
        DataServerType::Stunnel
    }

    fn find(&self) -> Result<PathBuf, String> {
        // `stunnel` may be a script for the old version's options.
        find(&["stunnel4", "stunnel"], "stunnel4")
    }

    fn prepare<'a>(&'a self, plan: ForwardPlan, workspace: &'a Workspace) -> BoxFuture<'a, io::Result<Prepared>> {
        Box::pin(async move {
            let (ports, path) = Path::of(plan);
            let directory = workspace.directory.path();
            write_private(&directory.join(KEY), &format!("{IDENTITY}:{}\n", key(&path.secret)))?;
            let addresses: Vec<_> =
                ports.iter().map(|port| endpoint(&port.address().ip().to_string(), port.address().port())).collect();
            write_private(&directory.join(CONFIGURATION), &configuration(&addresses, &path))?;
            // It binds TCP by itself; while UDP is taken no other session is given the port.
            let held = ports.into_iter().map(ReservedPort::vacate).collect();
            Ok(Prepared {
                arguments: vec![CONFIGURATION.into()],
                environment: Vec::new(),
                listeners: Vec::new(),
                held,
                ready: Ready::Says("Accepting new connections"),
                counters: None,
            })
        })
    }
}

/// In hexadecimal digits.
fn key(secret: &Secret) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match secret.uid() {
        Some(uid) => digits(uid.as_bytes()),
        None => digits(&secret.derive::<32>("stunnel")),
    }
}

/// It takes what is before the last colon for the host, without brackets.
fn endpoint(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// Targets hold nothing but letters, digits, dots, hyphens, underscores and colons (`Target`): no line ends in one.
fn configuration(addresses: &[String], path: &Path) -> String {
    let Path { role, targets, options, .. } = path;
    let seconds = |time: std::time::Duration| time.min(NEVER).as_millis().div_ceil(1000).max(1);
    let connect = seconds(options.connect_timeout);
    let idle = seconds(options.idle_timeout.unwrap_or(NEVER));
    let client = if *role == Role::Consumer { "yes" } else { "no" };
    let mut text = String::from("foreground = yes\npid =\nsyslog = no\ndebug = info\n");
    for at in ["l", "r"] {
        let _ = writeln!(text, "socket = {at}:TCP_NODELAY=1\nsocket = {at}:SO_KEEPALIVE=1");
        if let Some(bytes) = options.socket_buffer {
            let _ = writeln!(text, "socket = {at}:SO_SNDBUF={bytes}\nsocket = {at}:SO_RCVBUF={bytes}");
        }
    }
    for (lane, (address, target)) in addresses.iter().zip(targets).enumerate() {
        let target = endpoint(target.host(), target.port());
        let _ = write!(
            text,
            "[lane{lane}]
client = {client}
accept = {address}
connect = {target}
delay = yes
PSKsecrets = {KEY}
PSKidentity = {IDENTITY}
sslVersionMin = TLSv1.2
ciphers = {CIPHERS}
ciphersuites = {CIPHERSUITES}
libwrap = no
reset = yes
TIMEOUTconnect = {connect}
TIMEOUTidle = {idle}
TIMEOUTclose = {idle}
"
        );
    }
    text
}
