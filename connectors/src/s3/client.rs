//! The client library, with what this process's environment says and nothing else of it.

use std::env;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::error::Failures;
use super::{ANSWER_TIMEOUT, Bucket};
use crate::ConnectorError;

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn from_environment(bucket: &Bucket, failures: &Failures) -> Result<AmazonS3, ConnectorError> {
    let (Ok(access), Ok(secret)) = (env::var(ACCESS_KEY), env::var(SECRET_KEY)) else {
        return Err(failures.unusable(format!(
            "no credentials: set {ACCESS_KEY} and {SECRET_KEY} in the environment of psbench and of its workers"
        )));
    };
    // Refused where the process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new()
        .with_access_key_id(access)
        .with_secret_access_key(secret)
        .with_bucket_name(&bucket.bucket)
        .with_region(&bucket.region)
        .with_client_options(client_options(bucket))
        .with_retry(retries());
    if let Ok(token) = env::var(SESSION_TOKEN) {
        builder = builder.with_token(token);
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map_err(|error| failures.refused("set up the client", &error))
}

fn client_options(bucket: &Bucket) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(bucket.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")))
        .with_connect_timeout(CONNECT_TIMEOUT)
        // The connector's own limits know how much a request moves.
        .with_timeout_disabled()
        .with_read_timeout_disabled()
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: ANSWER_TIMEOUT,
    }
}
