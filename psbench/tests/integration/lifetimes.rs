//! How long stored objects stay, and what becomes of proxies to those that are gone.

use std::thread;

use crate::support::{Bench, Redis, assert_complete, finish, is_alive, send_signal, text, wait_until, workers_of};

/// A trial of 20 items by proxy.
fn options(lifetime: &str, connector: &str) -> String {
    format!(
        "--max-workers 3 --stream-method proxy --data-size-bytes 10kB --task-count 20 --verify --ps-lifetime {lifetime} {connector}"
    )
}

#[test]
fn owned_and_run_objects_are_gone_after_the_trial() {
    let server = Redis::start(&[]);
    for (lifetime, evictions) in [("owned", 20), ("run", 0)] {
        let trials = Bench::new().trials(&options(lifetime, &server.as_connector()));
        assert_complete(&trials[0]);
        assert_eq!(trials[0]["store"]["evictions"], evictions, "by workers, {lifetime}");
        assert_eq!(server.keys(), [""; 0], "{lifetime}");
    }
}

#[test]
fn static_objects_stay() {
    let server = Redis::start(&[]);
    let trials = Bench::new().trials(&options("static", &server.as_connector()));
    assert_complete(&trials[0]);
    assert_eq!(server.keys().len(), 20);
}

#[test]
fn leased_objects_expire_whether_resolved_or_not() {
    let server = Redis::start(&[]);
    // Each is resolved soon, and the first leases end while later tasks run: 10 × 0.6 s.
    let run = |connector: &str| {
        let trials = Bench::new().trials(&format!("{} --ps-lease 4 --task-sleep 0.6", options("leased", connector)));
        assert_complete(&trials[0]);
        let store = &trials[0]["store"];
        assert_eq!(store["evictions"], 0, "{store}");
        assert!(store["expired"].as_u64().unwrap() > 0, "{store}");
    };
    thread::scope(|scope| {
        scope.spawn(|| run("--ps-connector peer"));
        run(&server.as_connector());
    });
    assert_eq!(server.keys(), [""; 0], "what was still leased at the end of the trial goes with it");
}

#[test]
fn a_proxy_whose_lease_expired_fails_by_name_and_the_trial_balances() {
    let bench = Bench::new();
    // All are stored at once; two workers have resolved four when the leases end, and take the next ones two seconds later.
    let output = bench.run(&format!("{} --ps-lease 4 --task-sleep 3 --rate max", options("leased", "")));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    let items = &trial["items"];
    let failed = items["failed"].as_u64().unwrap();
    assert!((1..20).contains(&failed), "{items}");
    assert_eq!(items["finished"].as_u64().unwrap() + failed, 20, "{items}");
    assert_eq!(items["orphaned"], failed, "those that nobody resolved: {items}");
    let problems = trial["problems"].to_string();
    assert!(problems.contains("its lease of 4s has expired"), "{problems}");
}

#[test]
fn orphans_are_found_counted_and_deleted() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let options = options("owned", &server.as_connector());
    // The trial is given up while most objects wait for their resolve.
    let output = bench.run(&format!("{options} --task-sleep 3600 --rate max --timeout 4"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let items = bench.results()["trials"][0]["items"].clone();
    assert!(items["orphaned"].as_u64().unwrap() >= 10, "{items}");
    assert_eq!(server.keys(), [""; 0]);
}

/// A trial whose store is full at once: 10 of 100 items fit, and tasks take long.
const FULL: &str = "--max-workers 2 --stream-method proxy --data-size-bytes 100kB --ps-memory-limit 1MB --task-count 100 --rate max --task-sleep 3600";

#[test]
fn orphans_in_memory_are_those_that_were_held() {
    let run = |connector: &str| {
        let bench = Bench::new();
        let output = bench.run(&format!("{FULL} --timeout 4 --ps-connector {connector}"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let items = bench.results()["trials"][0]["items"].clone();
        let orphaned = items["orphaned"].as_u64().unwrap();
        assert!((1..=10).contains(&orphaned), "{connector} holds at most 10: {items}");
    };
    thread::scope(|scope| {
        scope.spawn(|| run("peer"));
        run("shm");
    });
}

#[test]
fn an_interrupt_does_not_wait_for_room_in_the_store() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    // Tasks that run have to end. Items that come one by one are each told of as soon as they are stored.
    let options = FULL.replace("--task-sleep 3600", "--task-sleep 2").replace("--rate max", "--rate 50/s");
    let options = format!("{options} --stream redis-queue --stream-servers {}", server.address());
    let child = bench.command(&options).spawn().unwrap();
    wait_until("the store is full", || server.calls("rpush") >= 10);
    send_signal(child.id(), "INT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_eq!(trial["items"]["lost"], 0, "{trial}");
    assert!(!trial["problems"].to_string().contains("full"), "{}", trial["problems"]);
}

#[test]
fn nothing_of_a_killed_run_stays_in_the_file_system() {
    for connector in ["peer", "shm"] {
        let (bench, temporary) = (Bench::new(), tempfile::tempdir().unwrap());
        let options = format!("{FULL} --ps-connector {connector}");
        let mut child =
            bench.command(&options).env("TMPDIR", temporary.path()).env_remove("XDG_RUNTIME_DIR").spawn().unwrap();
        wait_until("the workers are there", || workers_of(child.id()).len() == 2);
        let workers = workers_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("the workers are gone", || !workers.iter().any(|pid| is_alive(*pid)));
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{connector}");
    }
}
