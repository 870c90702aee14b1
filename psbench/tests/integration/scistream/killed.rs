//! What becomes of sessions when a control server is killed: nothing is left of them, or the next control server has them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::support::place::{Place, S2cs, echo, json, succeed, through};
use crate::support::{descendants_of, is_alive, ports, wait_until};

/// Names in a directory.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn listeners(path: &Value) -> impl Iterator<Item = &str> {
    ["listeners", "producer_listeners"]
        .into_iter()
        .flat_map(|name| path[name].as_array().unwrap())
        .map(|listener| listener.as_str().unwrap())
}

#[test]
fn a_control_server_that_is_killed_leaves_nothing() {
    const TYPES: [&str; 6] = ["copy", "tls", "quic", "haproxy", "stunnel", "nginx"];
    let place = Place::new();
    let state = place.path("state");
    let serve = |state: &Path| place.s2cs(&format!("--allow-type {} --state-dir {}", TYPES.join(","), state.display()));
    let (producer, consumer) = (serve(&state), serve(&place.path("other-state")));
    let both = format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address());
    let target = echo();
    let connect = |kind| json(&mut place.s2uc(&format!("connect {both} --type {kind} --target {target}")));
    let paths = TYPES.map(connect);
    for (path, kind) in paths.iter().zip(TYPES) {
        assert_eq!(through(path["listeners"][0].as_str().unwrap(), b"words"), b"words", "{kind}");
    }
    let programs: Vec<u32> =
        [&producer, &consumer].into_iter().flat_map(|server| descendants_of(server.process.id())).collect();
    // nginx is two.
    assert!(programs.len() >= 2 * 4, "{programs:?}");
    let left = names(&state);
    for program in ["haproxy-", "stunnel-", "nginx-"] {
        assert!(left.iter().any(|name| name.starts_with(program)), "{program}: {left:?}");
    }

    producer.kill();
    consumer.kill();
    wait_until("its programs are gone", || !programs.iter().any(|pid| is_alive(*pid)));
    for listener in paths.iter().flat_map(listeners) {
        wait_until("its ports are free", || TcpListener::bind(listener).is_ok());
    }
    // Files, with keys in them, can't go by themselves.
    let next = serve(&state);
    assert_eq!(names(&state), BTreeSet::from(["psbench-s2cs".to_owned()]));
    let status = json(&mut place.s2uc(&format!("status --s2cs {}", next.address())));
    assert_eq!((&status["sessions"], &status["ports_free"]), (&Value::Array(Vec::new()), &status["ports_total"]));
}

#[test]
fn sessions_that_are_kept_go_on_after_a_kill() {
    const TYPES: [&str; 3] = ["copy", "tls", "haproxy"];
    let place = Place::new();
    let gateway = |name: &str, ports: &str| {
        let (types, state) = (TYPES.join(","), place.path(name));
        let options = format!("s2cs --port 0 --port-range {ports} --allow-type {types} --keep-sessions");
        let mut command = place.psbench(&options);
        S2cs::start(command.arg("--state-dir").arg(state))
    };
    let ranges = [ports(), ports()];
    let start = || [gateway("producer", &ranges[0]), gateway("consumer", &ranges[1])];
    let both = |[producer, consumer]: &[S2cs; 2]| {
        format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address())
    };
    let (gateways, target) = (start(), echo());
    let connect = |kind| {
        let request = format!("connect {} --type {kind} --num-conn 2 --target {target}", both(&gateways));
        json(&mut place.s2uc(&request))
    };
    let paths = TYPES.map(connect);
    let carry = |when: &str| {
        for (path, kind) in paths.iter().zip(TYPES) {
            for listener in path["listeners"].as_array().unwrap() {
                assert_eq!(through(listener.as_str().unwrap(), b"words"), b"words", "{kind} {when}");
            }
        }
    };
    carry("at first");
    let programs: Vec<u32> = gateways.iter().flat_map(|server| descendants_of(server.process.id())).collect();
    gateways.into_iter().for_each(S2cs::kill);
    let gateways = start();
    for server in &gateways {
        let forwards = || {
            let status = json(&mut place.s2uc(&format!("status --s2cs {}", server.address())));
            let sessions = status["sessions"].as_array().unwrap().clone();
            sessions.len() == TYPES.len() && sessions.iter().all(|session| session["stage"] == "forwarding")
        };
        wait_until("it forwards again", forwards);
    }
    carry("after the kill");
    assert!(!programs.iter().any(|pid| is_alive(*pid)), "of the former control servers nothing is left");
    // They are sessions like any others.
    for path in &paths {
        succeed(&mut place.s2uc(&format!("disconnect {} {}", path["uid"].as_str().unwrap(), both(&gateways))));
    }
    gateways.into_iter().for_each(S2cs::kill);
    for name in ["producer", "consumer"] {
        assert_eq!(fs::read_dir(place.path(name).join("sessions")).map_or(0, Iterator::count), 0);
    }
}
