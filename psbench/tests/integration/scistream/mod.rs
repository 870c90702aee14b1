//! `psbench s2cs` and `psbench s2uc` from outside: gateways between a producer and a consumer.

mod as_typed;
mod globus;
mod identities;
mod killed;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::place::{LIMIT, Place, S2cs, echo, json, refusal, succeed, through};
use crate::support::{is_alive, ports, send_signal, text, wait_until};

#[test]
fn more_connections_than_a_gateway_has_are_refused_where_they_are_asked_for() {
    let place = Place::new();
    let path = "connect --producer-s2cs localhost:1 --consumer-s2cs localhost:2 --target localhost:3";
    for (option, most) in [("--stripes 33", "1..=32"), ("--stripes 0", "1..=32"), ("--preconnect 65", "0..=64")] {
        for mut command in [place.s2uc(&format!("{path} {option}")), place.psbench(&format!("s2cs {option}"))] {
            let error = String::from_utf8(command.output().unwrap().stderr).unwrap();
            assert!(error.contains(most), "{option}: {error}");
            assert_eq!(command.status().unwrap().code(), Some(2));
        }
    }
    let error = refusal(&mut place.psbench("s2cs --insecure --port 0 --type quic --preconnect 17"), 2);
    assert!(error.contains("keeps 16 connections at most for each port"), "{error}");
}

#[test]
fn a_path_through_two_gateways_carries_bytes_and_leaves_nothing_behind() {
    let place = Place::new();
    let other = Place::new();
    let (producer, consumer) = (place.s2cs("--metrics 0"), other.s2cs(""));
    let both = format!(
        "--producer-s2cs {} --consumer-s2cs {} --consumer-cert {}",
        producer.address(),
        consumer.address(),
        other.path("server.crt").display()
    );
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    // What is printed is where to connect.
    let output = place.s2uc(&format!("connect {both} --target {}", echo())).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let listener = String::from_utf8(output.stdout).unwrap();
    let listener = listener.trim_end();
    assert!(through(listener, &sent) == sent);
    let hint = String::from_utf8(output.stderr).unwrap();
    let uid = hint.split_whitespace().nth(1).unwrap().trim_end_matches(';');
    assert!(hint.contains(&format!("psbench s2uc disconnect {uid} --producer-s2cs {}", producer.address())), "{hint}");

    let status = json(&mut place.s2uc(&format!("status --s2cs {}", producer.address())));
    let session = &status["sessions"][0];
    assert_eq!(
        (&session["uid"], &session["stage"], &session["role"]),
        (&uid.into(), &"forwarding".into(), &"PROD".into())
    );
    assert_eq!(session["traffic"]["bytes_to_target"], sent.len());
    assert_eq!(session["traffic"]["bytes_to_client"], sent.len());
    assert_eq!(session["traffic"]["connections_total"], 1);
    assert_eq!((&status["ports_free"], &status["ports_total"]), (&10.into(), &11.into()));
    let told = succeed(&mut place.s2uc(&format!("status {uid} --s2cs {}", producer.address())));
    assert!(told.contains("10 of 11 ports free") && told.contains(uid) && told.contains(" → 127.0.0.1:"), "{told}");

    let page = scrape(&producer);
    for line in [
        format!("direction=\"to_target\"}} {}", sent.len()),
        r#"scistream_ports{state="free"} 10.0"#.to_owned(),
        r#"scistream_sessions{stage="forwarding"} 1.0"#.to_owned(),
    ] {
        assert!(page.lines().any(|other| other.ends_with(&line)), "{line}\n{page}");
    }
    let connections = page.lines().find(|line| line.starts_with("scistream_session_connections_total{")).unwrap();
    assert!(connections.ends_with(r#",role="PROD",type="copy",identity="anonymous"} 1"#), "{connections}");
    assert!(!page.contains(&uid[..8]), "{page}");
    assert!(!page.contains(uid), "{page}");

    succeed(&mut place.s2uc(&format!("disconnect {uid} {both}")));
    assert!(!consumer.is_at(listener) && !producer.is_at(session["listeners"][0].as_str().unwrap()));
    let status = json(&mut place.s2uc(&format!("status --s2cs {}", producer.address())));
    assert_eq!((&status["ports_free"], status["sessions"].as_array().unwrap().len()), (&11.into(), 0));
    let state = producer.report["state_dir"].as_str().unwrap().to_owned();
    let error = refusal(&mut place.s2uc(&format!("release {uid} --s2cs {}", producer.address())), 1);
    assert!(error.contains("entry not found"), "{error}");
    assert_eq!(producer.end("TERM"), 0);
    assert!(!Path::new(&state).exists(), "{state} is gone with its control server");
}

fn scrape(server: &S2cs) -> String {
    let mut stream = TcpStream::connect(server.report["metrics"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

/// What workflow scripts do with the output of SciStream's own user client, with its options.
#[test]
fn halves_are_asked_for_as_scripts_do() {
    let place = Place::new();
    let (producer, consumer) = (place.s2cs("--ssl --server_crt server.crt --server_key server.key"), place.s2cs(""));
    let (application, certificate) = (echo(), place.path("server.crt"));
    let script = r#"
        set -eu
        "$PSBENCH" s2uc inbound-request --num_conn 2 --rate 10000 --s2cs "$PROD" --server_cert "$CERT" --scope "" \
            --remote_ip localhost --receiver_ports "$PORT,$PORT" > inbound.txt
        UID_=$(awk 'NR==2 {print $1}' inbound.txt)
        [ "$(awk 'NR==1' inbound.txt)" = "uid; s2cs; access_token; role" ]
        [ "$(awk 'NR==2 {print $2, $4, NF}' inbound.txt)" = "$PROD PROD 4" ]
        grep -qx "Hello message sent successfully" inbound.txt
        LISTENERS=$(sed -n "s/^Listeners: \[\(.*\)\]$/\1/p" inbound.txt | tr -d "' ")
        "$PSBENCH" s2uc outbound-request --num_conn 2 --s2cs "$CONS" --server_cert "$CERT" --remote_ip localhost \
            --receiver_ports "$PORT" "$UID_" "$LISTENERS" > outbound.txt
        [ "$(awk 'NR==2 {print $1, $4, NF}' outbound.txt)" = "$UID_ CONS 4" ]
        grep -qx "Hello message sent successfully" outbound.txt
        sed -n "s/^Listeners: \[\(.*\)\]$/\1/p" outbound.txt | tr -d "' "
        echo "$UID_"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(place.0.path()).env("PSBENCH", env!("CARGO_BIN_EXE_psbench"));
    command.env("PROD", producer.address()).env("CONS", consumer.address());
    command.env("CERT", &certificate).env("PORT", application.port().to_string());
    let told = succeed(&mut command);
    let (listeners, uid) = told.trim_end().split_once('\n').unwrap();
    let listeners: Vec<_> = listeners.split(',').collect();
    assert_eq!(listeners.len(), 2, "{told}");
    for listener in &listeners {
        assert_eq!(through(listener, b"words"), b"words");
    }
    for server in [&consumer, &producer] {
        succeed(&mut place.s2uc(&format!("release {uid} --s2cs {} --server_cert server.crt", server.address())));
    }
    assert!(listeners.iter().all(|listener| !consumer.is_at(listener)));
}

#[test]
fn an_application_says_hello_by_itself() {
    let place = Place::new();
    let producer = place.s2cs("");
    let application = echo();
    let mut waiting = place
        .s2uc(&format!("prod-req --num-conn 1 --s2cs {}", producer.address()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines().map(Result::unwrap);
    let uid = lines.by_ref().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let hello = format!(
        "hello {uid} --s2cs {} --remote-ip 127.0.0.1 --receiver-ports {}",
        producer.address(),
        application.port()
    );
    let told = succeed(&mut place.s2uc(&hello));
    assert!(told.starts_with("Sending Prod listeners...\n"), "{told}");
    let listeners = lines.find(|line| line.starts_with("Listeners: ")).unwrap();
    assert!(waiting.wait().unwrap().success());
    let listener = listeners.strip_prefix("Listeners: ['").unwrap().strip_suffix("']").unwrap();
    assert_eq!(through(listener, b"words"), b"words");
}

#[test]
fn a_request_that_is_interrupted_gives_its_ports_back() {
    let place = Place::new();
    let producer = place.s2cs("");
    let free =
        || json(&mut place.s2uc(&format!("status --s2cs {}", producer.address())))["ports_free"].as_u64().unwrap();
    let mut waiting =
        place.s2uc(&format!("prod-req --s2cs {}", producer.address())).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the ports are reserved", || free() == 6);
    send_signal(waiting.id(), "INT");
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    wait_until("the ports are back", || free() == 11);
}

#[test]
fn a_control_server_ends_in_order_and_its_sessions_with_it() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        let state = place.path("state");
        let (producer, consumer) = (place.s2cs(&format!("--state-dir {}", state.display())), place.s2cs(""));
        let both = format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address());
        let path = json(&mut place.s2uc(&format!("connect {both} --num-conn 3 --target {}", echo())));
        assert_eq!(path["listeners"].as_array().unwrap().len(), 3);
        let mut stream = TcpStream::connect(path["listeners"][0].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let (listener, pid) = (path["producer_listeners"][0].as_str().unwrap().to_owned(), producer.process.id());
        assert_eq!(producer.end(signal), 0);
        assert!(!is_alive(pid));
        TcpListener::bind(&listener).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "its connections have ended");
        let left: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let own = |name: &std::ffi::OsString| name == "lock" || name == "psbench-s2cs";
        assert!(left.iter().all(own), "{left:?}");
    }
}

#[test]
fn a_session_is_told_of_by_the_address_that_others_reach() {
    let place = Place::new();
    let range = ports();
    let first: u16 = range.split('-').next().unwrap().parse().unwrap();
    let server = S2cs::start(
        &mut place.psbench(&format!("s2cs --port 0 --advertise gateway.example --port_map {range}:30700-30710")),
    );
    let told = succeed(&mut place.s2uc(&format!(
        "inbound-request --num-conn 2 --s2cs {} --receiver-ports {}",
        server.address(),
        echo().port()
    )));
    assert_eq!(told.lines().last().unwrap(), "Listeners: ['gateway.example:30700', 'gateway.example:30701']");
    assert_eq!(through(&format!("127.0.0.1:{}", first + 1), b"words"), b"words");
}

#[test]
fn what_can_not_be_is_one_line_that_says_what_to_do() {
    let place = Place::new();
    let nothing = tempfile::tempdir().unwrap();
    let open = place.path("open");
    fs::write(&open, "alice alices-token-0123456789\n").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    for (arguments, problem) in [
        ("s2cs --port 0 --server-key server.crt".to_owned(), "server.crt: holds no private key"),
        ("s2cs --port 0 --server-crt none.crt".to_owned(), "none.crt is not there; `psbench s2cs init` makes one"),
        (format!("s2cs --port 0 --tokens {}", open.display()), "chmod 600"),
        (format!("s2cs --port {taken}"), "Address already in use"),
        ("s2cs --port 0 --globus-client-id x".to_owned(), "PSBENCH_GLOBUS_CLIENT_SECRET"),
        ("s2cs --port 0 --advertise a/b".to_owned(), "can't advertise"),
        ("s2cs --port 0 --buffer-size 0".to_owned(), "--buffer-size 0B"),
        ("s2cs init".to_owned(), "server.crt: is there already"),
        ("s2cs init --force --san a/b".to_owned(), "\"a/b\""),
        ("s2cs init --force --cert server.key".to_owned(), "server.key is to be the certificate and the key"),
        (
            "s2uc connect --target x:1 --producer-s2cs localhost:1 --consumer-s2cs x:2 --insecure --token t".to_owned(),
            "--consumer-s2cs x:2: a token is not sent there",
        ),
        ("s2uc status --s2cs nonsense".to_owned(), "--s2cs nonsense: not a control server's address"),
        ("s2uc status --server-cert none.crt".to_owned(), "none.crt"),
        ("s2uc status --scope x".to_owned(), "does not log in at Globus"),
        ("s2uc hello 00000000-0000-4000-8000-000000000000 --remote-ip a/b".to_owned(), "a/b:5074"),
    ] {
        let error = refusal(&mut place.psbench(&arguments), 2);
        assert!(error.contains(problem), "{arguments}\n{error}");
    }
    let error = refusal(place.psbench("s2uc status").current_dir(nothing.path()), 2);
    assert!(error.contains("--server-cert server.crt: is not here"), "{error}");
    let error = refusal(&mut place.s2uc("status --s2cs 127.0.0.1:1"), 1);
    assert!(error.contains("Connection refused"), "{error}");
    // What the command line itself does not know.
    for arguments in [
        "s2cs --port_range 5-1",
        "s2cs --type squid",
        "s2cs --congestion a/b",
        "s2uc connect --target x",
        "s2uc outbound-request not-a-uid 127.0.0.1:1",
        "s2uc inbound-request --num_conn 0",
        "s2uc prod-req --transport sctp",
    ] {
        let output = place.psbench(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}\n{}", text(&output));
    }
}

#[test]
fn a_type_is_asked_for_where_it_is_offered() {
    let place = Place::new();
    let server = place.s2cs("--type tls --allow-type copy");
    assert_eq!(server.report["types"], serde_json::json!(["tls", "copy"]));
    let request = format!("inbound-request --num-conn 1 --s2cs {}", server.address());
    assert_eq!(json(&mut place.s2uc(&request))["type"], "tls");
    assert_eq!(json(&mut place.s2uc(&format!("{request} --type copy")))["type"], "copy");
    let error = refusal(&mut place.s2uc(&format!("{request} --type quic")), 1);
    assert!(error.contains("quic is not offered here; there are tls, copy"), "{error}");
    let only = place.s2cs("--allow-type none");
    assert_eq!(only.report["types"], serde_json::json!(["copy"]));
}

/// The reference has 77 MB; a container of 32 MiB is to do for a gateway.
#[test]
fn a_control_server_that_waits_is_small() {
    let place = Place::new();
    let server = place.s2cs("");
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Its own memory; what is mapped of an unoptimised program is another matter.
    let own = of("RssAnon:");
    assert!(own < 12_000, "{own} kB");
}
