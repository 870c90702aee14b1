//! Connectors at services that psbench does not start.

use psbench_connectors::endpoint::{self, EndpointLocation};
use psbench_connectors::s3::Bucket;
use uuid::Uuid;

use super::{OptionError, StreamScalingOptions};

impl StreamScalingOptions {
    /// The endpoint that answers: its address is looked up here, once, so that all processes of a run use the same one.
    pub(super) fn endpoint(&self) -> Result<EndpointLocation, OptionError> {
        const OPTION: &str = "--ps-endpoints";
        if self.ps_endpoints.is_empty() {
            return Err(OptionError::Missing { option: OPTION, needed_by: "--ps-connector endpoint" });
        }
        let not_an_id = "not a UUID; `proxystore-endpoint list` shows those of this host's endpoints";
        let ids =
            self.ps_endpoints.iter().map(|id| id.parse().map_err(|_| OptionError::invalid(OPTION, id, not_an_id)));
        let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
        let unusable = |problem: String| OptionError::invalid(OPTION, &self.ps_endpoints.join(" "), problem);
        let dir = endpoint::directory().ok_or_else(|| unusable("neither PROXYSTORE_HOME nor HOME is set".into()))?;
        endpoint::home(&ids, &dir).map_err(|error| unusable(error.to_string()))
    }

    pub(super) fn s3(&mut self) -> Result<Bucket, OptionError> {
        let bucket = self.ps_s3_bucket.clone();
        let bucket = bucket.ok_or(OptionError::Missing { option: "--ps-s3-bucket", needed_by: "--ps-connector s3" })?;
        if bucket.is_empty() || bucket.len() > LONGEST_BUCKET || bucket.contains(['/', ':', ' ']) {
            let problem = "not a bucket's name; write it without s3://";
            return Err(OptionError::invalid("--ps-s3-bucket", &bucket, problem));
        }
        Ok(Bucket {
            bucket,
            prefix: self.ps_s3_prefix.get_or_insert_with(|| "psbench".into()).clone(),
            endpoint: self.ps_s3_endpoint.as_deref().map(service_url).transpose()?,
            region: self.ps_s3_region.get_or_insert_with(|| "us-east-1".into()).clone(),
        })
    }
}

/// What S3 allows.
const LONGEST_BUCKET: usize = 63;

/// The URL of a service, without a slash at its end.
fn service_url(text: &str) -> Result<String, OptionError> {
    const OPTION: &str = "--ps-s3-endpoint";
    if text.contains('@') {
        let problem = "credentials don't belong there; put them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        return Err(OptionError::invalid(OPTION, &'…', problem));
    }
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() => Ok(url.to_owned()),
        _ => Err(OptionError::invalid(OPTION, &text, "write http://HOST[:PORT] or https://HOST[:PORT]")),
    }
}
