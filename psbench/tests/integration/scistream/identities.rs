//! Who a control server is, and whom it lets in.

use std::fs;

use crate::support::place::{Place, S2cs, echo, json, refusal, succeed, through};
use crate::support::ports;

#[test]
fn only_whoever_has_a_token_gets_in() {
    let place = Place::new();
    let tokens = place.secret("tokens", "alice alices-token-0123456789\nbob bobs-token-0123456789\n");
    let server = place.s2cs(&format!("--tokens {} --quota-sessions 1", tokens.display()));
    let request = format!("inbound-request --num-conn 1 --s2cs {}", server.address());
    let mine = place.secret("mine", "alices-token-0123456789\n");
    let error = refusal(&mut place.s2uc(&format!("status --s2cs {}", server.address())), 1);
    assert!(error.contains("wants a token") && error.contains("Unauthenticated"), "{error}");
    let told =
        succeed(place.s2uc(&format!("{request} --token-file {}", mine.display())).env("PSBENCH_S2CS_TOKEN", "x"));
    let second = told.lines().nth(1).unwrap();
    let uid = second.split(' ').next().unwrap();
    assert!(second.ends_with(" alices-token-0123456789 PROD"), "{second}");
    assert_eq!(told.matches("alices-token").count(), 1, "{told}");
    // Her quota, not his; and what is hers he can't end.
    let error = refusal(&mut place.s2uc(&format!("{request} --token-file {}", mine.display())), 1);
    assert!(error.contains("alice may have 1 sessions"), "{error}");
    let as_bob = |arguments: &str| {
        let mut command = place.s2uc(&format!("{arguments} --s2cs {}", server.address()));
        command.env("PSBENCH_S2CS_TOKEN", "bobs-token-0123456789");
        command
    };
    let error = refusal(&mut as_bob(&format!("release {uid}")), 1);
    assert!(error.contains("belongs to somebody else"), "{error}");
    assert_eq!(json(&mut as_bob("status"))["sessions"].as_array().unwrap().len(), 0);
    let his = json(&mut as_bob("inbound-request --num-conn 1"));
    assert!(!his.to_string().contains("bobs-token"), "{his}");
    // A file that changes is read anew.
    place.secret("tokens", "alice alices-token-0123456789\n");
    let error = refusal(&mut as_bob("status"), 1);
    assert!(error.contains("does not know the token"), "{error}");
}

#[test]
fn a_control_server_may_want_certificates_of_its_clients() {
    let place = Place::new();
    succeed(&mut place.psbench("s2cs init --cert client.crt --key client.key --san somebody"));
    // One that is known itself, and an authority with one that it signed.
    place.openssl("req -x509 -nodes -newkey rsa:2048 -subj /CN=authority -keyout authority.key -out authority.crt");
    place.openssl("req -nodes -newkey rsa:2048 -subj /CN=member -keyout member.key -out member.csr");
    fs::write(place.path("member.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    place.openssl(
        "x509 -req -in member.csr -CA authority.crt -CAkey authority.key -CAcreateserial -extfile member.ext \
         -out member.crt",
    );
    let known = ["client.crt", "authority.crt"].map(|name| fs::read_to_string(place.path(name)).unwrap());
    fs::write(place.path("known.crt"), known.concat()).unwrap();
    let (producer, consumer) = (place.s2cs("--client-ca known.crt"), place.s2cs("--client-ca known.crt"));
    let status = format!("status --s2cs {}", producer.address());
    let error = refusal(&mut place.s2uc(&status), 1);
    assert!(error.contains("a client's certificate that it knows"), "{error}");
    refusal(&mut place.s2uc(&format!("{status} --client-cert server.crt --client-key server.key")), 1);
    let both = format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address());
    for client in ["client", "member"] {
        let shown = format!("--client-cert {client}.crt --client-key {client}.key");
        let path = json(&mut place.s2uc(&format!("connect {both} {shown} --target {}", echo())));
        assert_eq!(through(path["listeners"][0].as_str().unwrap(), b"words"), b"words", "{client}");
        let uid = path["uid"].as_str().unwrap();
        refusal(&mut place.s2uc(&format!("release {uid} --s2cs {}", producer.address())), 1);
        succeed(&mut place.s2uc(&format!("disconnect {uid} {both} {shown}")));
    }
}

#[test]
fn the_openssl_recipes_certificate_serves() {
    let place = Place::new();
    place.openssl(
        "req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=gateway -addext subjectAltName=IP:127.0.0.1 \
         -keyout openssl.key -out openssl.crt",
    );
    let server = place.s2cs("--server-crt openssl.crt --server-key openssl.key");
    succeed(&mut place.s2uc(&format!("status --s2cs {} --server-cert openssl.crt", server.address())));
    let error = refusal(&mut place.s2uc(&format!("status --s2cs {}", server.address())), 1);
    assert!(error.contains("its certificate is none of server.crt's"), "{error}");
}

#[test]
fn without_tls_a_gateway_serves_this_host_alone() {
    let place = Place::new();
    for option in ["--listener-ip 0.0.0.0", "--control-ip 0.0.0.0", "--listener-ip ::"] {
        let error = refusal(&mut place.psbench(&format!("s2cs --port 0 --insecure {option}")), 2);
        assert!(error.contains("--insecure serves this host alone"), "{error}");
    }
    let mut command = place.psbench(&format!("s2cs --port 0 --port-range {} --insecure", ports()));
    let log = place.path("log");
    let server = S2cs::start(command.stderr(fs::File::create(&log).unwrap()));
    assert!(fs::read_to_string(&log).unwrap().contains("WARNING"), "it says what that means");
    let status = format!("status --s2cs {}", server.address());
    succeed(&mut place.s2uc(&format!("{status} --insecure")));
    refusal(&mut place.s2uc(&status), 1);
    let error = refusal(&mut place.s2uc("status --insecure --token x --s2cs gateway.example:5000"), 2);
    assert!(error.contains("a token is not sent there without TLS"), "{error}");
}
