//! A private S3 server in the test's own process, and credentials for it.

use std::env;
use std::process::Command;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use psbench_connectors::ConnectorSpec;
use psbench_connectors::s3::Bucket;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The bucket that is there.
pub(crate) const BUCKET: &str = "bench";
/// Whose the secret is.
pub(crate) const ACCESS_KEY: &str = "psbench-test";
/// What belongs to the access key.
pub(crate) const SECRET_KEY: &str = "the secret of the tests";

/// Runs until it is dropped; checks signatures.
pub(crate) struct S3Server {
    runtime: Option<Runtime>,
    root: TempDir,
    port: u16,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client may close its connection at any time.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { runtime: Some(runtime), root, port }
    }

    /// Closes the port and every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> ConnectorSpec {
        ConnectorSpec::S3(Bucket {
            bucket: BUCKET.into(),
            prefix: "some/where".into(),
            endpoint: Some(self.url()),
            region: "us-east-1".into(),
        })
    }

    /// The files of the bucket: its objects, by their names.
    pub(crate) fn objects(&self) -> Vec<std::path::PathBuf> {
        let bucket = self.root.path().join(BUCKET);
        let mut folders = vec![bucket.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&bucket).unwrap().to_owned());
                }
            }
        }
        found
    }
}

/// The environment that lets a process in.
pub(crate) fn credentials(secret: &str) -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()), ("AWS_SECRET_ACCESS_KEY", secret.into())]
}

/// Runs `test` in a process of its own with credentials in its environment, which no other test of this process may see. `name` is
/// that of the test function that calls this.
pub(crate) fn with_credentials(name: &str, secret: &str, test: impl FnOnce()) {
    let wanted = credentials(secret);
    if wanted.iter().all(|(variable, value)| env::var(variable).as_ref() == Ok(value)) {
        return test();
    }
    let output = Command::new(env::current_exe().unwrap()).args(["--exact", name]).envs(wanted).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
