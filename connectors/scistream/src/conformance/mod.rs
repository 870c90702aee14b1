//! What every [`DataServer`] must do: one suite for all types, those that are processes included.
//!
//! Most of it goes through a *pair*, as in use: a client, the consumer's gateway, the producer's gateway, a target. Types that pass bytes
//! on as they came are also tried singly. No check measures how long something takes: on a busy machine all of it only takes longer. Those
//! that wait, for stalled receivers and time limits, are apart. Checks that don't mind others run side by side.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "this is a test suite: it reports by panicking")]

mod bench;
mod datagrams;
mod endings;
mod limits;
mod options;
mod peers;
mod release;
mod streams;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use self::bench::Bench;
use crate::dataserver::{DataServer, DataServerType};

/// Given to anything that is to happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Makes a data server that keeps its files in a directory.
pub type Open<'a> = &'a dyn Fn(&Path) -> Arc<dyn DataServer>;

/// What a type is like. Programs that others wrote can't do everything: what they can't is listed in [`Shape::of`], with the reason.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whether one gateway by itself passes bytes on as they came; otherwise it takes two.
    pub single: bool,
    /// Whether nobody gets anything through a pair who does not have the session's secret.
    pub keyed: bool,
    /// Whether one way goes on when the other one ends.
    pub half_close: bool,
    /// Whether a reset is passed on as a reset, rather than as an ordinary end.
    pub resets: bool,
    /// Whether a target that refuses is tried again for a while.
    pub retries: bool,
}

impl Shape {
    /// What is wanted of a type that forwards in this process.
    pub const FULL: Self = Self { single: true, keyed: false, half_close: true, resets: true, retries: true };

    /// That of a type.
    pub fn of(kind: DataServerType) -> Self {
        match kind {
            DataServerType::Copy | DataServerType::Splice | DataServerType::Sockmap => Self::FULL,
            DataServerType::Quic | DataServerType::Tls => Self { single: false, keyed: true, ..Self::FULL },
            // Closes the client's connection in order when the target's was reset.
            DataServerType::Haproxy => Self { resets: false, ..Self::FULL },
            // Closes connections in order whatever happened at their other end, and tries an address once.
            DataServerType::Nginx => Self { resets: false, retries: false, ..Self::FULL },
            // Hears of a reset as of an end of TLS's stream, and tries an address once.
            DataServerType::Stunnel => Self { single: false, keyed: true, resets: false, retries: false, ..Self::FULL },
        }
    }
}

/// Runs what takes moments of the suite. `open` is called for each of the two gateways, as on two hosts.
///
/// Descriptors, threads and child processes of this process are counted, hence runs of it wait for each other; nothing else that makes
/// some should run beside it.
///
/// # Panics
/// With what the data server does wrong.
pub fn check(open: Open<'_>, shape: Shape) {
    run(open, shape, BESIDE_OTHERS, ALONE);
}

/// Runs the rest of the suite, which waits for what stalls or takes its time, some ten seconds. As [`check`] otherwise.
///
/// # Panics
/// With what the data server does wrong.
pub fn check_patiently(open: Open<'_>, shape: Shape) {
    run(open, shape, WAITING, &[]);
}

fn run(open: Open<'_>, shape: Shape, beside_others: &[Check], alone: &[Check]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new(open, shape);
    let benches = [bench.of(true), bench.of(false)];
    let benches = if shape.single { &benches[..] } else { &benches[1..] };
    side_by_side(&turns(beside_others, benches));
    for turn in turns(alone, benches) {
        turn.run();
    }
}

type Check = (&'static str, fn(&Bench));

/// Each with what it wants.
const BESIDE_OTHERS: &[Check] = &[
    ("bytes arrive intact both ways", streams::bytes_arrive_intact_both_ways),
    ("either side may speak first", streams::either_side_may_speak_first),
    ("IPv6 and names work", streams::ipv6_and_names_work),
    ("each lane has its own target", streams::each_lane_has_its_own_target),
    ("sessions do not mix", streams::sessions_do_not_mix),
    ("200 connections at once", streams::many_connections_at_once),
    ("traffic is counted", streams::traffic_is_counted),
    ("one way goes on when the other one ended", endings::one_way_goes_on_when_the_other_ended),
    ("a reset is passed on", endings::a_reset_is_passed_on),
    ("a reset is never taken for an end", endings::a_reset_is_never_taken_for_an_end),
    ("a client learns that its target vanished", endings::a_client_learns_that_its_target_vanished),
    ("a target learns that its client vanished", endings::a_target_learns_that_its_client_vanished),
    ("clients may leave at once", endings::clients_may_leave_at_once),
    ("a target may listen late", endings::a_target_may_listen_late),
    ("datagrams are forwarded or refused", datagrams::datagrams_are_forwarded_or_refused),
];

/// Those that wait, most of them for a time limit to pass: one that a busy machine does not reach by itself.
const WAITING: &[Check] = &[
    ("a client is told that its target never listens", endings::a_client_is_told_that_its_target_never_listens),
    ("the other gateway may come back", endings::the_other_gateway_may_come_back),
    ("a stalled reader stalls the writer", limits::a_stalled_reader_stalls_the_writer),
    ("idle connections end", limits::idle_connections_end),
    ("a rate is kept", limits::a_rate_is_kept),
    ("waiting for the rate is not idling", limits::waiting_for_the_rate_is_not_idling),
    ("nothing without the key", limits::nothing_without_the_key),
];

/// Those that count what this process holds.
const ALONE: &[Check] = &[
    ("connections one after another leave nothing behind", streams::connections_one_after_another_leave_nothing_behind),
    ("options are kept or refused", options::options_are_kept_or_refused),
    ("a release leaves nothing behind", release::a_release_leaves_nothing_behind),
    ("a drop leaves nothing behind", release::a_drop_leaves_nothing_behind),
];

/// A check of one kind of path.
struct Turn<'a> {
    name: &'static str,
    check: fn(&Bench),
    bench: &'a Bench,
}

impl Turn<'_> {
    fn run(&self) {
        let _named = Named { name: self.name, single: self.bench.single };
        (self.check)(self.bench);
    }
}

fn turns<'a>(checks: &[Check], benches: &'a [Bench]) -> Vec<Turn<'a>> {
    let turns = |&(name, check)| benches.iter().map(move |bench| Turn { name, check, bench });
    checks.iter().flat_map(turns).collect()
}

/// Several at a time; none begins once one has failed.
fn side_by_side(turns: &[Turn<'_>]) {
    const AT_A_TIME: usize = 8;
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let last = LastOnPanic { next: &next, end: turns.len() };
            turn.run();
            drop(last);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(run);
        }
    });
}

/// Leaves the others no further turn.
struct LastOnPanic<'a> {
    next: &'a AtomicUsize,
    end: usize,
}

impl Drop for LastOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.next.store(self.end, Ordering::Relaxed);
        }
    }
}

/// Tells which check failed.
struct Named {
    name: &'static str,
    single: bool,
}

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            let gateways = if self.single { "one gateway" } else { "two gateways" };
            eprintln!("check failed, {gateways}: {}", self.name);
        }
    }
}
