//! Objects in a bucket of S3, or of a service that speaks it (MinIO, Ceph, …).
//!
//! An object is `<prefix>/<id>`, its content the object's bytes and nothing else: ProxyStore has no connector for S3 whose layout
//! this would have to match. The credentials are those in each process's environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
//! and `AWS_SESSION_TOKEN` where there is one), so a proxy does not carry them; and a [`Resolver`](crate::Resolver) uses them at the
//! buckets alone that it was [told](crate::Resolver::trusting) of. They must allow to get, put and delete objects, and to list the
//! bucket: without that S3 hides whether an object is missing.
//!
//! S3 does not say whether there was something to delete: [`evict`](Connector::evict) asks first, [`take`](Connector::take) gets and
//! then deletes, so of two that take one object at the same time both may get it.

mod client;
mod error;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::error::Failures;
use crate::address::{Location, Shown};
use crate::descriptor::Descriptor;
use crate::runtime::Driver;
use crate::{Address, Connector, ConnectorError, Key, KeySource};

/// The largest object that S3 takes in one request, bytes.
const SIZE_LIMIT: u64 = 5 << 30;
/// Requests of one batch under way at a time: the service has no batches of its own but for deleting.
const CONCURRENT: usize = 16;
/// Objects that S3 deletes with one request.
const DELETED_TOGETHER: usize = 1000;
/// How long a request may take, beside the time for its bytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a second that a request is given at least.
const LEAST_RATE: u64 = 10_000_000;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor::of::<Bucket>(NAME, "A bucket of S3 or of what speaks it");

const NAME: &str = "s3";

/// A bucket and a part of it. Credentials come from each process's environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// The bucket, which must exist.
    pub bucket: String,
    /// Stands ahead of the objects' names; may be empty.
    pub prefix: String,
    /// The service's URL; absent for AWS. Only `http://` allows connections without TLS.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: String,
}

impl Bucket {
    /// All of the bucket: whoever may see credentials there may do so whatever the prefix.
    pub(crate) fn whole(&self) -> Self {
        Self { prefix: String::new(), ..self.clone() }
    }

    /// The host of a URL that is no AWS.
    pub(crate) fn host(&self) -> Option<&str> {
        let url = self.endpoint.as_deref()?;
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        Some(host.rsplit_once(':').map_or(host, |(host, _)| host))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix, endpoint, .. } = self;
        write!(f, "{bucket}/{prefix} at {}", endpoint.as_deref().unwrap_or("AWS"))
    }
}

impl Location for Bucket {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(S3Connector::open(self, KeySource::random())?))
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn shown(&self) -> Vec<Shown> {
        let refusal = || {
            format!(
                "{NAME} {self} is not a bucket of this trial, so this worker does not use its AWS credentials there: store the objects in \
                 the one that --ps-s3-bucket, --ps-s3-endpoint and --ps-s3-region name"
            )
        };
        // What was read from an address can be written as one again.
        Address::of(&self.whole()).map(|service| Shown { service, refusal: refusal() }).into_iter().collect()
    }
}

/// Stores each object as an object of S3.
pub struct S3Connector {
    address: Address,
    prefix: Path,
    keys: KeySource,
    failures: Failures,
    store: AmazonS3,
    /// Drives the connections; callers wait for it on their own threads.
    runtime: Driver,
}

impl S3Connector {
    /// Makes sure that the bucket is there and lets these credentials in.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`], with what to do, where it is not or does not, within 30 s.
    pub fn open(bucket: &Bucket, keys: KeySource) -> Result<Self, ConnectorError> {
        let failures = Failures::new(bucket);
        let store = client::from_environment(bucket, &failures)?;
        let runtime = Driver::start("s3").map_err(|error| failures.io("start its thread", error))?;
        let (address, prefix) = (Address::of(bucket)?, Path::from(&*bucket.prefix));
        let connector = Self { address, prefix, keys, failures, store, runtime };
        // A listing that finds nothing: what is asked of one object, a missing bucket may answer like a missing object.
        let nothing = connector.object_path(Uuid::nil());
        connector.wait(connector.request("open the bucket", 0, connector.store.list(Some(&nothing)).try_next()))?;
        Ok(connector)
    }

    fn object_path(&self, id: Uuid) -> Path {
        self.prefix.clone().join(id.to_string())
    }

    /// Waits on the caller's thread.
    fn wait<T>(&self, requests: impl Future<Output = Result<T, ConnectorError>>) -> Result<T, ConnectorError> {
        self.runtime.block_on(requests)
    }

    /// One request that moves `size` bytes, within its time.
    async fn request<T>(
        &self,
        action: &str,
        size: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ConnectorError> {
        let limit = ANSWER_TIMEOUT + Duration::from_secs(size / LEAST_RATE);
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer.map_err(|error| self.failures.refused(action, &error)),
            Err(_) => Err(self.failures.late(action, limit)),
        }
    }

    /// Stores an object; `share` of them have the line together.
    async fn store(&self, key: Key, object: Bytes, share: u64) -> Result<(), ConnectorError> {
        let size = (object.len() as u64).saturating_mul(share);
        let path = self.object_path(key.id);
        self.request(&format!("put {key}"), size, self.store.put(&path, object.into())).await.map(drop)
    }

    async fn fetch(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let action = format!("get {key}");
        let path = self.object_path(key.id);
        let found = self.request(&action, 0, async { absent_as_none(self.store.get(&path).await) }).await?;
        let Some(found) = found else { return Ok(None) };
        let size = found.meta.size;
        let expected = key.size.unwrap_or(SIZE_LIMIT).min(SIZE_LIMIT);
        if size > expected {
            return Err(self.failures.protocol(&action, format!("{size} bytes came where {expected} were expected")));
        }
        self.request(&action, size, found.bytes()).await.map(Some)
    }

    /// The object's path, where there is an object.
    async fn find(&self, key: &Key) -> Result<Option<Path>, ConnectorError> {
        let path = self.object_path(key.id);
        let head = async { absent_as_none(self.store.head(&path).await) };
        let found = self.request(&format!("look for {key}"), 0, head).await?;
        Ok(found.map(|_| path))
    }

    async fn delete(&self, key: &Key, path: &Path) -> Result<(), ConnectorError> {
        self.request(&format!("evict {key}"), 0, self.store.delete(path)).await
    }

    fn check_size(&self, size: u64) -> Result<(), ConnectorError> {
        if size <= SIZE_LIMIT {
            return Ok(());
        }
        Err(ConnectorError::TooLarge {
            connector: self.address.to_string(),
            size,
            limit: SIZE_LIMIT,
            remedy: "S3 takes no more in one request: use the `file` or `peer` connector".into(),
        })
    }
}

fn absent_as_none<T>(answer: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match answer {
        Err(error) if error::is_absent(&error) => Ok(None),
        answer => answer.map(Some),
    }
}

impl Connector for S3Connector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let size = object.len() as u64;
        self.check_size(size)?;
        let key = self.keys.next(size);
        self.wait(self.store(key, object, 1))?;
        Ok(key)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        objects.iter().try_for_each(|object| self.check_size(object.len() as u64))?;
        let keys: Vec<Key> = objects.iter().map(|object| self.keys.next(object.len() as u64)).collect();
        let requests = keys.iter().zip(objects).map(|(key, object)| self.store(*key, object, CONCURRENT as u64));
        self.wait(stream::iter(requests).buffer_unordered(CONCURRENT).try_collect::<()>())?;
        Ok(keys)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.wait(self.fetch(key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.wait(self.find(key))?.is_some())
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.wait(async {
            let Some(path) = self.find(key).await? else { return Ok(false) };
            self.delete(key, &path).await?;
            Ok(true)
        })
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        let mut evicted = 0;
        for chunk in keys.chunks(DELETED_TOGETHER) {
            let found = stream::iter(chunk.iter().map(|key| self.find(key))).buffer_unordered(CONCURRENT);
            let there: Vec<Path> = self.wait(found.try_filter_map(|path| async { Ok(path) }).try_collect())?;
            let count = there.len() as u64;
            let deleted = self.store.delete_stream(stream::iter(there.into_iter().map(Ok)).boxed());
            let action = format!("evict {count} objects from {}", chunk[0]);
            self.wait(self.request(&action, 0, deleted.try_for_each(|_| async { Ok(()) })))?;
            evicted += count;
        }
        Ok(evicted)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.wait(async {
            let object = self.fetch(key).await?;
            if object.is_some() {
                self.delete(key, &self.object_path(key.id)).await?;
            }
            Ok(object)
        })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

/// Without the client, which shows half of the credentials.
impl fmt::Debug for S3Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Connector").field("address", &self.address).finish_non_exhaustive()
    }
}
