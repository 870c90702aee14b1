//! HAProxy: forwards in user space, one thread for each core.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::program::{FIRST_FD, Prepared, Program, Ready, Workspace, find, listeners};
use super::{NEVER, write_private};
use crate::dataserver::DataServerType;
use crate::forward::{ForwardOptions, ForwardPlan, Target, Traffic};
use crate::relay::Path;

/// As the reference implementation sets it.
const BUFFER: usize = 100_000;
/// Below it HAProxy does not work.
const LEAST_BUFFER: usize = 16 << 10;
const CONFIGURATION: &str = "haproxy.cfg";
const COUNTERS: &str = "counters.sock";
/// After how many failures a target is given up. Between two of them HAProxy waits a second, or as long as it waits for a connection if
/// that is less.
const RETRIES: u32 = 3;

/// HAProxy.
pub(super) struct Haproxy;

impl Program for Haproxy {
    fn kind(&self) -> DataServerType {
        DataServerType::Haproxy
    }

    fn find(&self) -> Result<PathBuf, String> {
        find(&["haproxy"], "haproxy")
    }

    fn prepare<'a>(&'a self, plan: ForwardPlan, workspace: &'a Workspace) -> BoxFuture<'a, io::Result<Prepared>> {
        Box::pin(async move {
            let (ports, Path { targets, options, .. }) = Path::of(plan);
            let mut lanes = Vec::new();
            for target in &targets {
                lanes.push(resolve(target, options.connect_timeout).await?);
            }
            write_private(&workspace.directory.path().join(CONFIGURATION), &configuration(&options, &lanes))?;
            Ok(Prepared {
                arguments: vec!["-db".into(), "-f".into(), CONFIGURATION.into()],
                environment: Vec::new(),
                listeners: listeners(ports)?,
                held: Vec::new(),
                ready: Ready::Answers,
                counters: Some(COUNTERS),
            })
        })
    }
}

/// All addresses of a target. HAProxy takes but one of a name's, whether somebody listens there or not.
async fn resolve(target: &Target, within: Duration) -> io::Result<Vec<String>> {
    let lookup = tokio::net::lookup_host((target.host(), target.port()));
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("can't look target {target} up: {error}"));
    let found = tokio::time::timeout(within, lookup).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let addresses: Vec<_> = found.map_err(failed)?.map(|address| address.to_string()).collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(addresses)
}

/// Addresses are written by this process, so nothing that a user sent gets into it.
fn configuration(options: &ForwardOptions, lanes: &[Vec<String>]) -> String {
    let milliseconds = |time: Duration| time.min(NEVER).as_millis().max(1);
    let buffer = options.buffer_size.clamp(LEAST_BUFFER, BUFFER);
    let connect = milliseconds(options.connect_timeout / (RETRIES + 1));
    let idle = milliseconds(options.idle_timeout.unwrap_or(NEVER));
    let mut text = format!(
        "global
    stats socket unix@{COUNTERS} mode 600 level operator
    stats timeout 1m
    tune.bufsize {buffer}
"
    );
    if let Some(bytes) = options.socket_buffer {
        for what in ["sndbuf.client", "sndbuf.server", "rcvbuf.client", "rcvbuf.server"] {
            let _ = writeln!(text, "    tune.{what} {bytes}");
        }
    }
    // The first address that can be reached is used: after a failure the next one is tried, and none again before all were.
    let _ = write!(
        text,
        "defaults
    mode tcp
    timeout connect {connect}ms
    timeout client {idle}ms
    timeout server {idle}ms
    timeout tunnel {idle}ms
    retries {RETRIES}
    option redispatch 1
    balance first
    option clitcpka
    option srvtcpka
"
    );
    for (lane, (addresses, fd)) in lanes.iter().zip(FIRST_FD..).enumerate() {
        let _ = writeln!(text, "listen lane{lane}\n    bind fd@{fd}");
        for (number, address) in addresses.iter().enumerate() {
            let _ = writeln!(text, "    server target{number} {address}");
        }
    }
    text
}

/// Adds up what `show stat` told of all lanes (HAProxy's management guide, 9.1).
pub(super) fn traffic(csv: &str) -> Option<Traffic> {
    let mut lines = csv.lines();
    let names: HashMap<&str, usize> =
        lines.next()?.trim_start_matches(['#', ' ']).split(',').enumerate().map(|(at, name)| (name, at)).collect();
    let mut total = Traffic::default();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |name: &str| -> u64 {
            names.get(name).and_then(|at| fields.get(*at)).and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        match names.get("svname").and_then(|at| fields.get(*at)) {
            Some(&"FRONTEND") => {
                total.bytes_to_target += number("bin");
                total.bytes_to_client += number("bout");
                total.connections_open += number("scur");
                total.connections_total += number("stot");
            }
            Some(&"BACKEND") => total.connections_refused += number("econ"),
            _ => {}
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_target_is_tried() {
        let lanes = [vec!["10.0.0.1:80".to_owned(), "[fe80::1]:80".to_owned()], vec!["10.0.0.2:81".to_owned()]];
        let text = configuration(&ForwardOptions::default(), &lanes);
        assert!(text.contains(
            "listen lane0\n    bind fd@3\n    server target0 10.0.0.1:80\n    server target1 [fe80::1]:80\n"
        ));
        assert!(text.contains("listen lane1\n    bind fd@4\n    server target0 10.0.0.2:81\n"));
    }

    #[test]
    fn counters_of_all_lanes_are_added_up() {
        let csv = "# pxname,svname,scur,stot,bin,bout,econ,\n\
                   lane0,FRONTEND,1,3,100,10,,\n\
                   lane0,target0,1,3,100,10,1,\n\
                   lane0,BACKEND,1,3,100,10,1,\n\
                   lane1,FRONTEND,0,2,1,2,,\n";
        let told = traffic(csv).unwrap();
        assert_eq!((told.bytes_to_target, told.bytes_to_client), (101, 12));
        assert_eq!((told.connections_open, told.connections_total, told.connections_refused), (1, 5, 1));
        assert_eq!(traffic(""), None);
    }
}
