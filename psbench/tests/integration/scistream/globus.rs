//! Tokens of Globus Auth: a stand-in on this host is asked whose they are.

use scistream::tls::ServerTls;
use stand_in::StandIn;
use tokio::runtime::Runtime;

use crate::support::place::{Place, S2cs, echo, json, refusal, succeed, through};
use crate::support::ports;

#[path = "../../../../connectors/scistream/src/auth/globus/stand_in.rs"]
mod stand_in;

/// What the stand-in knows a control server by.
const CLIENT: &str = "gateway-1";
const SECRET: &str = "s3cret/+ word";

#[test]
fn only_whoever_globus_knows_gets_in() {
    let place = Place::new();
    let runtime = Runtime::new().unwrap();
    let globus = runtime.block_on(StandIn::start(None));
    place.secret("globus-secret", &format!("{SECRET}\n"));
    let options = format!("--globus-client-id {CLIENT} --globus-address {}", globus.address);
    let producer = place.s2cs(&format!("{options} --globus-client-secret-file globus-secret --quota-sessions 1"));
    // With the names of SciStream's own control server.
    let mut command = place.psbench(&format!(
        "s2cs --port 0 --port_range {} --client_id={CLIENT} --globus-address {}",
        ports(),
        globus.address
    ));
    let consumer = S2cs::start(command.args(["--client_secret", SECRET]));
    let both = format!("--producer-s2cs {} --consumer-s2cs {}", producer.address(), consumer.address());
    let connect = format!("connect {both} --target {}", echo());

    let error = refusal(&mut place.s2uc(&connect), 1);
    assert!(error.contains("wants a token") && error.contains("Unauthenticated"), "{error}");
    assert_eq!(globus.asked(), 0, "nobody asks without one");
    let path = json(place.s2uc(&connect).env("PSBENCH_S2CS_TOKEN", "alice"));
    assert_eq!(through(path["listeners"][0].as_str().unwrap(), b"words"), b"words");
    let asked = globus.asked();
    let status = |server: &S2cs| place.s2uc(&format!("status --s2cs {}", server.address()));
    for server in [&producer, &consumer] {
        succeed(status(server).env("PSBENCH_S2CS_TOKEN", "alice"));
    }
    assert_eq!(globus.asked(), asked, "whom they know they don't ask for again");
    for (token, problem) in [
        ("inactive", "is not active"),
        ("other-scope", "https://auth.globus.org/scopes/gateway-1/scistream"),
        ("expired", "expired"),
        ("busy", "503"),
    ] {
        let error = refusal(place.s2uc(&connect).env("PSBENCH_S2CS_TOKEN", token), 1);
        assert!(error.contains(problem), "{token}: {error}");
    }
    // Identities are those of Globus.
    let error = refusal(place.s2uc(&connect).env("PSBENCH_S2CS_TOKEN", "alice"), 1);
    assert!(error.contains("sub-of-alice may have 1 sessions"), "{error}");
    let uid = path["uid"].as_str().unwrap();
    let release = format!("release {uid} --s2cs {}", producer.address());
    let error = refusal(place.s2uc(&release).env("PSBENCH_S2CS_TOKEN", "bob"), 1);
    assert!(error.contains("belongs to somebody else"), "{error}");
    succeed(place.s2uc(&format!("disconnect {uid} {both}")).env("PSBENCH_S2CS_TOKEN", "alice"));
}

#[test]
fn globus_is_known_by_its_certificate_and_not_waited_for() {
    let place = Place::new();
    let runtime = Runtime::new().unwrap();
    let tls = ServerTls::load(&place.path("server.crt"), &place.path("server.key"), None).unwrap();
    let globus = runtime.block_on(StandIn::start(Some(tls)));
    place.secret("globus-secret", SECRET);
    succeed(&mut place.psbench("s2cs init --cert other.crt --key other.key"));
    let serve = |options: &str| {
        place.s2cs(&format!(
            "--globus-client-id {CLIENT} --globus-client-secret-file globus-secret --globus-address {} {options}",
            globus.address
        ))
    };
    let status = |server: &S2cs, token: &str| {
        let mut command = place.s2uc(&format!("status --s2cs {}", server.address()));
        command.env("PSBENCH_S2CS_TOKEN", token);
        command
    };
    let known = serve("--globus-cert server.crt");
    let impatient = serve("--globus-cert server.crt --globus-timeout 300ms");
    let stranger = serve("--globus-cert other.crt");
    succeed(&mut status(&known, "alice"));
    let error = refusal(&mut status(&stranger, "alice"), 1);
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(globus.asked(), 1, "no secret was sent to a stranger");
    let error = refusal(&mut status(&impatient, "slow"), 1);
    assert!(error.contains("within 0.3 s"), "{error}");
    place.secret("nothing", "\n");
    let options = format!("--globus-client-id {CLIENT} --globus-client-secret-file nothing");
    let error = refusal(&mut place.psbench(&format!("s2cs --port 0 {options}")), 2);
    assert!(error.contains("nothing"), "{error}");
    // An empty secret lets nobody in, rather than everybody.
    for secret in ["", "--client-secret="] {
        let error = refusal(&mut place.psbench(&format!("s2cs --port 0 --client-id {CLIENT} {secret}")), 2);
        assert!(error.contains("PSBENCH_GLOBUS_CLIENT_SECRET in the environment"), "{error}");
    }
}
