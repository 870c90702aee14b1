//! Handshakes: between both sides here, and with the openssl program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A directory with certificates and keys.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `NAME.crt` and `NAME.key` as `init` makes them.
    fn init(&self, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let made = [self.at(&format!("{name}.crt")), self.at(&format!("{name}.key"))];
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        NewCertificate { names, valid: YEAR }.write(&made[0], &made[1], false).unwrap();
        made.into()
    }

    /// The same as openssl makes them.
    fn openssl(&self, name: &str, arguments: &str) -> (PathBuf, PathBuf) {
        let made = [self.at(&format!("{name}.crt")), self.at(&format!("{name}.key"))];
        openssl(&format!(
            "req -x509 -nodes -subj /CN=gateway -out {} -keyout {} {arguments}",
            made[0].display(),
            made[1].display()
        ));
        made.into()
    }
}

fn openssl(arguments: &str) {
    let output = Command::new("openssl").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const RECIPE: &str = "-newkey rsa:2048 -days 30 -addext subjectAltName=IP:127.0.0.1";

/// Shakes hands and has both sides say a word, or says why not.
async fn meet(server: &ServerTls, client: &ClientTls, name: &str) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = server.acceptor();
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await.map_err(|error| format!("server: {error}"))?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(PROTOCOL));
        stream.write_all(b"word").await.map_err(|error| format!("server: {error}"))?;
        stream.shutdown().await.map_err(|error| format!("server: {error}"))
    });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let told = async {
        let mut stream = TlsConnector::from(client.config()).connect(name, near).await?;
        let mut word = String::new();
        stream.read_to_string(&mut word).await?;
        Ok::<_, std::io::Error>(word)
    }
    .await
    .map_err(|error| client.explain(&error).unwrap_or_else(|| error.to_string()));
    let served = serving.await.unwrap();
    assert_eq!(told?, "word");
    served
}

fn server((certificate, key): &(PathBuf, PathBuf)) -> ServerTls {
    ServerTls::load(certificate, key, None).unwrap()
}

#[tokio::test]
async fn what_init_makes_is_trusted_by_whoever_has_it() {
    let files = Files::new();
    let made = files.init("server", &["localhost", "127.0.0.1", "::1", "*.example.org"]);
    let client = ClientTls::pinned(&made.0, None).unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "elsewhere.example"] {
        meet(&server(&made), &client, name).await.unwrap();
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&made.1), mode(&made.0)), (0o600, 0o644));
}

#[test]
fn init_writes_over_nothing_unless_told() {
    let files = Files::new();
    let (certificate, key) = files.init("server", &["localhost"]);
    let before = fs::read(&key).unwrap();
    let new = NewCertificate { names: usual_names(), valid: YEAR };
    for (certificate, key) in [(&certificate, &files.at("other.key")), (&files.at("other.crt"), &key)] {
        let error = new.write(certificate, key, false).unwrap_err();
        assert!(matches!(error, TlsError::Exists { .. }), "{error}");
    }
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 2, "no other file is left");
    new.write(&certificate, &key, true).unwrap();
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 2);
}

#[test]
fn init_that_fails_leaves_the_old_key_and_is_not_made_of_one_file() {
    let files = Files::new();
    let (_, key) = files.init("server", &["localhost"]);
    let before = fs::read(&key).unwrap();
    let new = NewCertificate { names: usual_names(), valid: YEAR };
    let directory = files.at("directory");
    fs::create_dir(&directory).unwrap();
    let error = new.write(&directory, &key, true).unwrap_err();
    assert!(matches!(&error, TlsError::Write { path, .. } if *path == directory), "{error}");
    let same = files.at("directory/../server.key");
    let error = new.write(&same, &key, true).unwrap_err();
    assert!(matches!(error, TlsError::OneFile { .. }), "{error}");
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 3, "no other file is left");
}

#[test]
fn a_certificate_is_for_hosts_alone() {
    let files = Files::new();
    for name in ["", "a b", "http://x", "x:5000", "*"] {
        let new = NewCertificate { names: vec![name.into()], valid: YEAR };
        let error = new.write(&files.at("crt"), &files.at("key"), false).unwrap_err();
        assert!(matches!(&error, TlsError::Name(named) if named == name), "{error}");
    }
    let elsewhere = files.at("no/where");
    let new = NewCertificate { names: usual_names(), valid: Duration::MAX };
    let error = new.write(&elsewhere, &files.at("key"), false).unwrap_err();
    assert!(error.to_string().contains("no/where"), "{error}");
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 0);
    new.write(&files.at("crt"), &files.at("key"), false).unwrap();
}

#[tokio::test]
async fn the_openssl_recipes_certificate_of_an_authority_serves_a_server() {
    let files = Files::new();
    for (name, arguments) in [
        ("rsa", RECIPE),
        ("ec", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -addext subjectAltName=DNS:gateway"),
        ("ed25519", "-newkey ed25519"),
    ] {
        let made = files.openssl(name, arguments);
        let client = ClientTls::pinned(&made.0, None).unwrap();
        for name in ["127.0.0.1", "localhost"] {
            meet(&server(&made), &client, name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn keys_come_in_each_of_their_forms() {
    let files = Files::new();
    let (certificate, key) = files.openssl("rsa", RECIPE);
    let pkcs1 = files.at("pkcs1.key");
    openssl(&format!("rsa -traditional -in {} -out {}", key.display(), pkcs1.display()));
    let ec = files.openssl("ec", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1");
    let sec1 = files.at("sec1.key");
    openssl(&format!("ec -in {} -out {}", ec.1.display(), sec1.display()));
    for (certificate, key, form) in [
        (&certificate, &key, "BEGIN PRIVATE KEY"),
        (&certificate, &pkcs1, "BEGIN RSA PRIVATE KEY"),
        (&ec.0, &sec1, "BEGIN EC PRIVATE KEY"),
    ] {
        assert!(fs::read_to_string(key).unwrap().contains(form));
        let client = ClientTls::pinned(certificate, None).unwrap();
        meet(&ServerTls::load(certificate, key, None).unwrap(), &client, "localhost").await.unwrap();
    }
    let locked = files.at("locked.key");
    openssl(&format!("pkey -aes256 -passout pass:word -in {} -out {}", key.display(), locked.display()));
    let error = ServerTls::load(&certificate, &locked, None).unwrap_err();
    assert!(error.to_string().contains("is encrypted"), "{error}");
}

#[tokio::test]
async fn another_servers_certificate_is_refused() {
    let files = Files::new();
    let (one, other) = (files.init("one", &["localhost"]), files.init("other", &["localhost"]));
    let error = meet(&server(&one), &ClientTls::pinned(&other.0, None).unwrap(), "localhost").await.unwrap_err();
    assert!(error.contains("other.crt's, nor signed by one"), "{error}");
    // Nor does an openssl certificate, which is an authority's, vouch for others of its name.
    let (one, other) = (files.openssl("a", RECIPE), files.openssl("b", RECIPE));
    meet(&server(&one), &ClientTls::pinned(&other.0, None).unwrap(), "127.0.0.1").await.unwrap_err();
    // A file may hold several.
    let both = files.at("both.crt");
    fs::write(&both, [fs::read(&one.0).unwrap(), fs::read(&other.0).unwrap()].concat()).unwrap();
    let client = ClientTls::pinned(&both, None).unwrap();
    for made in [&one, &other] {
        meet(&server(made), &client, "localhost").await.unwrap();
    }
}

#[tokio::test]
async fn who_shows_a_pinned_certificate_needs_its_key() {
    let files = Files::new();
    let (one, other) = (files.openssl("one", RECIPE), files.openssl("other", RECIPE));
    let error = ServerTls::load(&one.0, &other.1, None).unwrap_err();
    assert!(error.to_string().contains("is not the certificate of the key"), "{error}");
}

/// An authority, and a certificate that it signed for `name`.
fn signed(files: &Files, name: &str) -> (PathBuf, (PathBuf, PathBuf)) {
    let (authority, authority_key) = files.openssl("authority", "-newkey rsa:2048");
    let [certificate, key, request, extensions] =
        ["signed.crt", "signed.key", "signed.csr", "signed.ext"].map(|name| files.at(name));
    openssl(&format!("req -nodes -newkey rsa:2048 -subj /CN=x -keyout {} -out {}", key.display(), request.display()));
    fs::write(&extensions, format!("subjectAltName=DNS:{name}\n")).unwrap();
    openssl(&format!(
        "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 30 -extfile {} -out {}",
        request.display(),
        authority.display(),
        authority_key.display(),
        extensions.display(),
        certificate.display()
    ));
    (authority, (certificate, key))
}

#[tokio::test]
async fn what_an_authority_signed_is_good_for_its_name_alone() {
    let files = Files::new();
    let (authority, made) = signed(&files, "gateway.example");
    let client = ClientTls::pinned(&authority, None).unwrap();
    meet(&server(&made), &client, "gateway.example").await.unwrap();
    let error = meet(&server(&made), &client, "other.example").await.unwrap_err();
    assert!(error.contains("gateway.example"), "{error}");
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_refused() {
    let files = Files::new();
    let made = [files.at("old.crt"), files.at("old.key")].into();
    NewCertificate { names: usual_names(), valid: Duration::ZERO }
        .write(&files.at("old.crt"), &files.at("old.key"), false)
        .unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let client = ClientTls::pinned(&files.at("old.crt"), None).unwrap();
    let error = meet(&server(&made), &client, "localhost").await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_lets_nobody_else_in() {
    let files = Files::new();
    let made = files.init("server", &["localhost"]);
    let (friend, stranger) = (files.init("friend", &["friend"]), files.init("stranger", &["friend"]));
    let recipe = files.openssl("recipe", RECIPE);
    let friends = files.at("friends.crt");
    fs::write(&friends, [fs::read(&friend.0).unwrap(), fs::read(&recipe.0).unwrap()].concat()).unwrap();
    let server = ServerTls::load(&made.0, &made.1, Some(&friends)).unwrap();
    let as_client = |of: Option<&(PathBuf, PathBuf)>| {
        ClientTls::pinned(&made.0, of.map(|(certificate, key)| (&**certificate, &**key))).unwrap()
    };
    for friend in [&friend, &recipe] {
        meet(&server, &as_client(Some(friend)), "localhost").await.unwrap();
    }
    let error = meet(&server, &as_client(None), "localhost").await.unwrap_err();
    assert!(error.contains("it wants a certificate of the client's"), "{error}");
    let error = meet(&server, &as_client(Some(&stranger)), "localhost").await.unwrap_err();
    assert!(error.contains("it does not accept the client's certificate"), "{error}");
    let (authority, signed) = signed(&files, "somebody");
    let server = ServerTls::load(&made.0, &made.1, Some(&authority)).unwrap();
    meet(&server, &as_client(Some(&signed)), "localhost").await.unwrap();
    meet(&server, &as_client(Some(&friend)), "localhost").await.unwrap_err();
}

#[tokio::test]
async fn the_openssl_program_gets_in_with_both_versions_of_tls() {
    let files = Files::new();
    for made in [files.init("init", &["localhost", "127.0.0.1"]), files.openssl("recipe", RECIPE)] {
        for version in ["-tls1_2", "-tls1_3"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let acceptor = server(&made).acceptor();
            let serving = tokio::spawn(async move {
                let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                stream.write_all(b"a word").await.unwrap();
                stream.shutdown().await.unwrap();
            });
            // It verifies as Python's gRPC does: with the file as the one root, and the address as the name.
            let program = Command::new("openssl")
                .args(["s_client", "-quiet", "-verify_return_error", "-verify_ip", "127.0.0.1", "-alpn", "h2", version])
                .args(["-connect", &address.to_string(), "-CAfile"])
                .arg(&made.0)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let output = tokio::task::spawn_blocking(|| program.wait_with_output().unwrap()).await.unwrap();
            assert_eq!(output.stdout, b"a word", "{}", String::from_utf8_lossy(&output.stderr));
            serving.await.unwrap();
        }
    }
}

#[test]
fn what_is_no_certificate_is_named() {
    let files = Files::new();
    let (certificate, key) = files.init("server", &["localhost"]);
    let [empty, garbage] = ["empty", "garbage"].map(|name| files.at(name));
    fs::write(&empty, "").unwrap();
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let absent = files.at("absent");
    for (certificate, key, problem) in [
        (&absent, &key, "absent: No such file"),
        (&empty, &key, "empty: holds no certificate; expected"),
        (&key, &key, "server.key: holds no certificate; expected"),
        (&garbage, &key, "garbage: has a broken certificate: "),
        (&certificate, &absent, "absent: No such file"),
        (&certificate, &certificate, "server.crt: holds no private key; expected"),
    ] {
        let error = ServerTls::load(certificate, key, None).unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains('\n'), "{error}");
    }
    for trusted in [&absent, &empty, &garbage, &key] {
        ClientTls::pinned(trusted, None).unwrap_err();
        ServerTls::load(&certificate, &key, Some(trusted)).unwrap_err();
    }
}

#[tokio::test]
async fn the_systems_roots_know_no_private_server() {
    let files = Files::new();
    let made = files.init("server", &["localhost"]);
    match ClientTls::system_roots(None) {
        Ok(client) => {
            let error = meet(&server(&made), &client, "localhost").await.unwrap_err();
            assert!(error.starts_with("its certificate is "), "{error}");
        }
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}
