//! Whoever connects without being asked.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Bench, finish, send_signal, wait_until};

/// The name of the memory broker's socket of this process, once there is one.
fn broker_of(pid: u32) -> Option<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let sockets: HashSet<String> = links
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let all = fs::read_to_string("/proc/net/unix").ok()?;
    all.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.get(7)?.strip_prefix("@psbench-broker-")?;
        sockets.contains(fields[6]).then(|| format!("psbench-broker-{name}"))
    })
}

#[test]
fn callers_at_the_memory_brokers_socket_are_a_few_lines_with_a_count() {
    const CALLERS: usize = 2000;
    let bench = Bench::new();
    let run = bench.command("--max-workers 2 --data-size-bytes 1kB --task-count 1000000 --rate 20").spawn().unwrap();
    // It listens before it logs.
    wait_until("it logs", || !bench.log().is_empty());
    wait_until("the broker listens", || broker_of(run.id()).is_some());
    let address = SocketAddr::from_abstract_name(broker_of(run.id()).unwrap()).unwrap();
    let called = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // One that says nothing holds up nobody.
            let _silent = UnixStream::connect_addr(&address).unwrap();
            for _ in 0..CALLERS {
                let mut caller = UnixStream::connect_addr(&address).unwrap();
                caller.write_all(&[0xff; 21]).unwrap();
                assert_eq!(caller.read(&mut [0; 2]).unwrap(), 1, "it is told that its secret is wrong");
            }
            called.store(true, Ordering::Relaxed);
        });
        wait_until("all have called", || called.load(Ordering::Relaxed));
    });
    send_signal(run.id(), "INT");
    finish(run);
    let log = bench.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("turned a caller away")).collect();
    // One a minute, and the rest at the end.
    assert!((2..20).contains(&lines.len()), "{lines:#?}");
    let counted = |line: &&str| {
        let count = line.split_once("the latest of ").map(|(_, rest)| rest.split(' ').next().unwrap().parse::<usize>());
        count.map_or(1, Result::unwrap)
    };
    assert_eq!(lines.iter().map(counted).sum::<usize>(), CALLERS, "{lines:#?}");
    assert!(lines[0].contains("its secret is wrong"), "{lines:#?}");
}
