//! How long stored objects stay, and what becomes of proxies to those that are gone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::{Duration, Instant};

use support::{Bench, Redis, assert_complete, is_alive, send_signal, text, wait_until, workers_of};

/// A trial of 20 items by proxy.
fn options(lifetime: &str, connector: &str) -> String {
    format!(
        "--max-workers 3 --stream-method proxy --data-size-bytes 10kB --task-count 20 --verify --ps-lifetime {lifetime} {connector}"
    )
}

fn redis(server: &Redis) -> String {
    format!("--ps-connector redis --ps-host 127.0.0.1 --ps-port {}", server.port)
}

#[test]
fn owned_and_run_objects_are_gone_after_the_trial() {
    let server = Redis::start(&[]);
    for (lifetime, evictions) in [("owned", 20), ("run", 0)] {
        let trials = Bench::new().trials(&options(lifetime, &redis(&server)));
        assert_complete(&trials[0]);
        assert_eq!(trials[0]["store"]["evictions"], evictions, "by workers, {lifetime}");
        assert_eq!(server.keys(), [""; 0], "{lifetime}");
    }
}

#[test]
fn static_objects_stay() {
    let server = Redis::start(&[]);
    let trials = Bench::new().trials(&options("static", &redis(&server)));
    assert_complete(&trials[0]);
    assert_eq!(server.keys().len(), 20);
}

#[test]
fn leased_objects_expire_whether_resolved_or_not() {
    let server = Redis::start(&[]);
    // Each is resolved soon, and the first leases end while later tasks run: 10 × 0.25 s.
    for connector in [redis(&server), "--ps-connector peer".into()] {
        let trials =
            Bench::new().trials(&format!("{} --ps-lease 1.5 --task-sleep 0.25", options("leased", &connector)));
        assert_complete(&trials[0]);
        let store = &trials[0]["store"];
        assert_eq!(store["evictions"], 0, "{store}");
        assert!(store["expired"].as_u64().unwrap() > 0, "{store}");
    }
    assert_eq!(server.keys(), [""; 0], "what was still leased at the end of the trial goes with it");
}

#[test]
fn a_proxy_whose_lease_expired_fails_by_name_and_the_trial_balances() {
    let bench = Bench::new();
    // All are stored at once; two workers take 10 × 0.2 s.
    let output = bench.run(&format!("{} --ps-lease 0.5 --task-sleep 0.2 --rate max", options("leased", "")));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    let items = &trial["items"];
    let failed = items["failed"].as_u64().unwrap();
    assert!((1..20).contains(&failed), "{items}");
    assert_eq!(items["finished"].as_u64().unwrap() + failed, 20, "{items}");
    assert_eq!(items["orphaned"], failed, "those that nobody resolved: {items}");
    let problems = trial["problems"].to_string();
    assert!(problems.contains("its lease of 500ms has expired"), "{problems}");
}

#[test]
fn orphans_are_found_counted_and_deleted() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let options = options("owned", &redis(&server));
    // The trial is given up while most objects wait for their resolve.
    let output = bench.run(&format!("{options} --task-sleep 1 --rate max --timeout 1.5"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let items = bench.results()["trials"][0]["items"].clone();
    assert!(items["orphaned"].as_u64().unwrap() >= 10, "{items}");
    assert_eq!(server.keys(), [""; 0]);
}

/// A trial whose store is full at once: 10 of 100 items fit, and tasks take long.
const FULL: &str = "--max-workers 2 --stream-method proxy --data-size-bytes 100kB --ps-memory-limit 1MB --task-count 100 --rate max --task-sleep 60";

#[test]
fn orphans_in_memory_are_those_that_were_held() {
    for connector in ["peer", "shm"] {
        let bench = Bench::new();
        let output = bench.run(&format!("{FULL} --timeout 2 --ps-connector {connector}"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let items = bench.results()["trials"][0]["items"].clone();
        let orphaned = items["orphaned"].as_u64().unwrap();
        assert!((1..=10).contains(&orphaned), "{connector} holds at most 10: {items}");
    }
}

#[test]
fn an_interrupt_does_not_wait_for_room_in_the_store() {
    let bench = Bench::new();
    // Tasks that run have to end.
    let child = bench.command(&FULL.replace("--task-sleep 60", "--task-sleep 2")).spawn().unwrap();
    wait_until("the workers are there", || workers_of(child.id()).len() == 2);
    std::thread::sleep(Duration::from_millis(1500));
    let interrupted = Instant::now();
    send_signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert!(interrupted.elapsed() < Duration::from_secs(20), "{:?}", interrupted.elapsed());
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
