//! To whom this process's credentials are shown.
//!
//! A proxy names the place of its object, and whoever wrote it may have named any. Requests to S3 are signed with what the environment
//! of each process says, and Redis servers are sent the password that it has, so that a place of a stranger's choice would get those.

use crate::ConnectorConfig;
use crate::redis::RedisServer;

/// The first bucket of `config` that is none of the `known` connector's: another service, region or name.
pub(crate) fn unknown_bucket<'a>(
    config: &'a ConnectorConfig,
    known: Option<&ConnectorConfig>,
) -> Option<&'a ConnectorConfig> {
    let known: Vec<_> = known.into_iter().flat_map(buckets).collect();
    buckets(config).into_iter().find(|bucket| !known.iter().any(|known| is_same_bucket(known, bucket)))
}

/// The first Redis server of `config` that is none of the `known` connector's.
pub(crate) fn unknown_redis<'a>(
    config: &'a ConnectorConfig,
    known: Option<&ConnectorConfig>,
) -> Option<&'a RedisServer> {
    let known: Vec<_> = known.into_iter().flat_map(redis_servers).collect();
    redis_servers(config).into_iter().find(|server| !known.contains(server))
}

fn redis_servers(config: &ConnectorConfig) -> Vec<&RedisServer> {
    match config {
        ConnectorConfig::Multi { parts, .. } => parts.iter().flat_map(|part| redis_servers(&part.config)).collect(),
        ConnectorConfig::Redis(server) => vec![server],
        _ => Vec::new(),
    }
}

fn buckets(config: &ConnectorConfig) -> Vec<&ConnectorConfig> {
    match config {
        ConnectorConfig::Multi { parts, .. } => parts.iter().flat_map(|part| buckets(&part.config)).collect(),
        ConnectorConfig::S3 { .. } => vec![config],
        _ => Vec::new(),
    }
}

fn is_same_bucket(one: &ConnectorConfig, other: &ConnectorConfig) -> bool {
    match (one, other) {
        (
            ConnectorConfig::S3 { bucket, endpoint, region, .. },
            ConnectorConfig::S3 { bucket: other_bucket, endpoint: other_endpoint, region: other_region, .. },
        ) => (bucket, endpoint, region) == (other_bucket, other_endpoint, other_region),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi::{Part, Policy};

    fn bucket(bucket: &str, endpoint: Option<&str>, region: &str) -> ConnectorConfig {
        let prefix = uuid::Uuid::new_v4().to_string();
        ConnectorConfig::S3 { bucket: bucket.into(), prefix, endpoint: endpoint.map(Into::into), region: region.into() }
    }

    fn multi(config: ConnectorConfig) -> ConnectorConfig {
        let files = ConnectorConfig::File { dir: "/tmp".into() };
        let part = |config| Part { config, policy: Policy::default() };
        ConnectorConfig::Multi { parts: vec![part(files), part(config)], tags: Vec::new() }
    }

    #[test]
    fn a_bucket_is_known_by_its_service_region_and_name() {
        let own = bucket("b", Some("http://s3"), "r");
        for known in [own.clone(), multi(own.clone())] {
            for config in [bucket("b", Some("http://s3"), "r"), multi(bucket("b", Some("http://s3"), "r"))] {
                assert_eq!(unknown_bucket(&config, Some(&known)), None);
            }
            for config in [
                bucket("b", Some("http://evil"), "r"),
                bucket("b", None, "r"),
                bucket("b", Some("http://s3"), "other"),
                bucket("other", Some("http://s3"), "r"),
            ] {
                assert_eq!(unknown_bucket(&config, Some(&known)), Some(&config));
                assert_eq!(unknown_bucket(&multi(config.clone()), Some(&known)), Some(&config));
            }
        }
        assert_eq!(unknown_bucket(&own, None), Some(&own));
    }

    #[test]
    fn other_connectors_need_no_credentials() {
        let redis = ConnectorConfig::Redis(crate::redis::RedisServer::tcp("anywhere", 1));
        assert_eq!(unknown_bucket(&multi(redis), None), None);
    }

    #[test]
    fn a_redis_is_known_by_all_that_reaches_it() {
        let at = |url| ConnectorConfig::Redis(RedisServer::from_url(url, 1).unwrap());
        let known = multi(at("rediss://u@h"));
        assert_eq!(unknown_redis(&at("rediss://u@h"), Some(&known)), None);
        for url in ["redis://u@h", "rediss://u@evil", "rediss://v@h"] {
            assert!(unknown_redis(&at(url), Some(&known)).is_some(), "{url}");
            assert!(unknown_redis(&multi(at(url)), None).is_some(), "{url}");
        }
    }
}
