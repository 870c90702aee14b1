//! The command lines that SciStream's documentation and tutorials give, letter by letter: `s2cs` and `s2uc` are psbench's, in a network
//! namespace with the addresses that stand there.

use std::process::{Command, Stdio};

use crate::support::place::{Place, S2cs, echo, json, refusal, succeed, through};
use crate::support::text;

/// What the scripts begin with.
const PRELUDE: &str = r#"
    set -eu
    ip link set lo up
    mkdir bin
    printf '#!/bin/sh\nexec "%s" s2cs "$@"\n' "$PSBENCH" > bin/s2cs
    printf '#!/bin/sh\nexec "%s" s2uc "$@"\n' "$PSBENCH" > bin/s2uc
    chmod +x bin/s2cs bin/s2uc
    PATH=$PWD/bin:$PATH
    addresses() { for address; do ip addr add "$address/32" dev lo; done; }
    # A host of its own is a temporary directory of its own here. It prints where it listens once it does.
    on_host() {
        host=$1; shift
        mkdir -p "$host"
        TMPDIR=$PWD/$host "$@" > "$host/out" 2> "$host/err" &
        server=$!
        until grep -q "S2CS listens at" "$host/out"; do
            kill -0 "$server" || { cat "$host/err" >&2; exit 1; }
            sleep 0.05
        done
    }
    # An application that says its name.
    application() {
        python3 -c '
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(sys.argv[1].encode())
    connection.close()' "$1" "$2" > application &
        until grep -q listening application; do sleep 0.05; done
    }
    says() {
        python3 -c '
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(connection.makefile().read())' "$1" "$2"
    }
    expect() { [ "$1" = "$2" ] || { echo "expected: $2"; echo "but: $1"; exit 1; } >&2; }
"#;

/// Runs a script in a network namespace of its own, whose processes end with it. `false`: that takes root.
fn typed(test: &str, script: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {test} takes root");
        return false;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c"]).arg(format!("{PRELUDE}\n{script}"));
    command.current_dir(directory.path()).env("PSBENCH", env!("CARGO_BIN_EXE_psbench")).stdin(Stdio::null());
    for variable in ["PSBENCH_S2CS_TOKEN", "PSBENCH_GLOBUS_CLIENT_SECRET"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    true
}

/// The tutorial with Vagrant: an instrument, a facility, and a gateway at each.
#[test]
fn the_tutorial_between_two_hosts() {
    typed(
        "the_tutorial_between_two_hosts",
        r#"
        addresses 192.168.10.10 192.168.10.11 192.168.20.10 192.168.30.10
        openssl req -x509 -nodes -days 365 -newkey rsa:2048 -keyout server.key -out server.crt -subj "/CN=192.168.10.11" \
            -addext "subjectAltName=IP:192.168.10.11,IP:192.168.30.10" 2> /dev/null
        application 192.168.10.10 5001
        on_host producers2 s2cs --verbose --port=5007 --listener-ip=192.168.10.11 --type=Haproxy
        on_host consumers2 s2cs --verbose --port=5007 --listener-ip=192.168.30.10 --type=Haproxy

        told=$(s2uc inbound_request --s2cs 192.168.10.11:5007 --remote_ip 192.168.10.10 --receiver_ports 5001 --mock True)
        expect "$told" "uid; s2cs; access_token; role
4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3 192.168.10.11:5007 INVALID_TOKEN PROD
sending client request message
started client request
waiting for hello message
sending for hello message
Hello message sent successfully
Listeners: ['192.168.10.11:5100', '192.168.10.11:5101', '192.168.10.11:5102', '192.168.10.11:5103', '192.168.10.11:5104']"

        told=$(s2uc outbound_request --s2cs 192.168.30.10:5007 --remote_ip 192.168.20.10 --receiver_ports 5100 4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3 192.168.10.11:5100)
        expect "$told" "uid; s2cs; access_token; role
4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3 192.168.30.10:5007 INVALID_TOKEN CONS
started client request
waiting for hello message
Hello message sent successfully
Listeners: ['192.168.30.10:5100', '192.168.30.10:5101', '192.168.30.10:5102', '192.168.30.10:5103', '192.168.30.10:5104']"
        expect "$(says 192.168.30.10 5100)" 192.168.10.10

        expect "$(s2uc release 4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3 --s2cs 192.168.10.11:5007)" "Release completed"
        expect "$(s2uc release 4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3 --s2cs 192.168.30.10:5007)" "Release completed"
        # What only --verbose logs.
        python3 -c 'import socket; socket.create_connection(("192.168.10.11", 5007)).sendall(bytes(100))'
        until grep -q "DEBUG.*handshake" producers2/err; do sleep 0.05; done
        "#,
    );
}

/// The tutorial with containers: stunnel at both gateways, and options over several lines.
#[test]
fn the_tutorial_with_containers() {
    typed(
        "the_tutorial_with_containers",
        r#"
        addresses 3.237.85.101 172.31.2.85 172.17.0.2
        openssl req -x509 -nodes -days 365 \
            -newkey rsa:2048 \
            -keyout server.key -out server.crt \
            -subj "/CN=172.17.0.2" \
            -addext "subjectAltName=IP:172.17.0.2" 2> /dev/null
        openssl req -x509 -nodes -days 365 -newkey rsa:2048 -keyout server1.key -out server1.crt -subj "/CN=3.237.85.101" \
            -addext "subjectAltName=IP:3.237.85.101" 2> /dev/null
        application 172.31.2.85 80
        on_host remote s2cs --server_crt=server1.crt --server_key=server1.key --type=StunnelSubprocess --listener_ip=3.237.85.101 \
            --port=5002 --port_range=5200-5210
        on_host local s2cs \
            --server_crt="server.crt" \
            --server_key="server.key" \
            --type="StunnelSubprocess" \
            --verbose \
            --listener_ip=172.17.0.2

        s2uc inbound-request \
            --server_cert="server1.crt" \
            --remote_ip 172.31.2.85 \
            --s2cs 3.237.85.101:5002 \
            --receiver_ports 80 \
            --num_conn 1 > inbound
        expect "$(sed -n '7,$p' inbound)" "Hello message sent successfully
Listeners: ['3.237.85.101:5200']"
        s2uc \
            outbound-request \
            --server_cert="server.crt" \
            --remote_ip 3.237.85.101 \
            --s2cs 172.17.0.2:5000 \
            --receiver_ports 5201 \
            --num_conn 1 \
            "$(awk 'NR==2 {print $1}' inbound)" 3.237.85.101:5200
        expect "$(says 172.17.0.2 5100)" 172.31.2.85
        "#,
    );
}

/// The quickstart, and the other pages' lines.
#[test]
fn the_quickstart() {
    typed(
        "the_quickstart",
        r#"
        addresses 10.0.1.5 192.168.2.10
        s2cs init > /dev/null
        application 10.0.1.5 5001
        on_host gateway s2cs -t Haproxy --verbose
        s2uc inbound_request --s2cs localhost:5000 --remote_ip 10.0.1.5 --receiver_ports 5001 > inbound
        expect "$(says 127.0.0.1 5104)" 10.0.1.5
        s2uc release "$(awk 'NR==2 {print $1}' inbound)" --s2cs localhost:5000
        kill "$server"; wait "$server"

        # Without a token there is nothing to log in with; with one, all goes as it does there.
        said=$(s2uc login --scope YOUR_SCOPE_ID 2>&1) && exit 1
        expect "$?" 2
        case $said in *scopes/YOUR_SCOPE_ID/scistream*PSBENCH_S2CS_TOKEN*) ;; *) echo "$said" >&2; exit 1 ;; esac
        s2uc check-auth --scope YOUR_SCOPE_ID 2> /dev/null && exit 1
        expect "$?" 2
        PSBENCH_S2CS_TOKEN=ag-token s2uc login --scope YOUR_SCOPE_ID | grep -q "already logged in"
        expect "$(PSBENCH_S2CS_TOKEN=ag-token s2uc check-auth --scope YOUR_SCOPE_ID)" "Access Token for scope 'YOUR_SCOPE_ID': ag-token"
        s2uc logout | grep -q "nothing to log out of"

        # Without TLS, on this host alone.
        on_host plain s2cs --type=Haproxy --ssl=False
        grep -q "without TLS" plain/out
        kill "$server"; wait "$server"
        on_host ports s2cs --port-range=10000-20000
        "#,
    );
}

#[test]
fn versions_are_told_as_scripts_read_them() {
    let place = Place::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(succeed(&mut place.psbench("s2cs --version")), format!("s2cs, version: {version}\n"));
    for option in ["--version", "-v"] {
        assert_eq!(succeed(&mut place.s2uc(option)), format!("s2uc, version {version}\n"));
    }
}

/// However yes and no are written there, and with the value in a word of its own.
#[test]
fn switches_take_values() {
    let place = Place::new();
    for (options, tls) in [
        ("-v", true),
        ("--verbose=False --ssl=True", true),
        ("--verbose True --ssl", true),
        ("-t copy --ssl=False", false),
        ("--ssl false --verbose", false),
        ("--ssl=FALSE", false),
        ("--ssl 0", false),
    ] {
        assert_eq!(place.s2cs(options).report["tls"], tls, "{options}");
    }
    let error = refusal(&mut place.psbench("s2cs --port 0 --ssl=False --listener_ip 0.0.0.0"), 2);
    assert!(error.contains("--ssl=False serves this host alone"), "{error}");
    let error = refusal(&mut place.psbench("s2cs --port 0 --ssl=False --client-ca server.crt"), 2);
    assert!(error.contains("without TLS clients show no certificate"), "{error}");
    let output = place.psbench("s2cs --ssl=perhaps").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("expected True or False"), "{}", text(&output));
}

#[test]
fn an_empty_element_of_a_list_is_passed_over() {
    let place = Place::new();
    let (producer, consumer) = (place.s2cs(""), place.s2cs(""));
    let port = echo().port();
    let half = json(&mut place.s2uc(&format!(
        "inbound_request --num_conn 2 --s2cs {} --remote_ip 127.0.0.1 --receiver_ports ,{port},,{port},",
        producer.address()
    )));
    let (uid, listener) = (half["uid"].as_str().unwrap(), half["listeners"][0].as_str().unwrap());
    let half = json(
        &mut place.s2uc(&format!("outbound_request --num_conn 1 --s2cs {} {uid} {listener},", consumer.address())),
    );
    assert_eq!(through(half["listeners"][0].as_str().unwrap(), b"words"), b"words");
    let both = format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address());
    let path = json(&mut place.s2uc(&format!("connect {both} --target ,127.0.0.1:{port},")));
    assert_eq!(through(path["listeners"][0].as_str().unwrap(), b"words"), b"words");
    let output = place.s2uc(&format!("connect {both} --target ,")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

/// The application's programs say hello at both sides.
#[test]
fn requests_that_wait_for_applications() {
    let place = Place::new();
    let (producer, consumer) = (place.s2cs(""), place.s2cs(""));
    let port = echo().port();
    let uid = "4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3";
    let ask = |server: &S2cs, request: &str, hello: &str| {
        let waiting =
            place.s2uc(&format!("{request} --num_conn 1 --s2cs {}", server.address())).stdout(Stdio::piped()).spawn();
        let told = succeed(&mut place.s2uc(&format!("hello {uid} --s2cs {} {hello}", server.address())));
        let output = waiting.unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let output = String::from_utf8(output.stdout).unwrap();
        let listener =
            output.lines().last().unwrap().strip_prefix("Listeners: ['").unwrap().trim_end_matches("']").to_owned();
        (told, output, listener)
    };
    let hello = format!("--role PROD --remote_ip 127.0.0.1 --receiver_ports {port}");
    let (told, said, listener) = ask(&producer, "prod_req --mock True", &hello);
    assert!(told.starts_with("Sending Prod listeners...") && said.contains(&format!("{uid} ")), "{told}{said}");
    let (told, said, listener) = ask(&consumer, &format!("cons_req {uid} {listener}"), "--role CONS");
    assert!(told.starts_with("Sending listeners...") && said.contains("INVALID_TOKEN CONS"), "{told}{said}");
    assert_eq!(through(&listener, b"words"), b"words");
}
