//! The parts of a plan that take more than one option each. Every method fills in the defaults of the options it reads.

use std::fs::{self, File};
use std::num::NonZero;

use std::thread::available_parallelism;
use std::time::Duration;

use psbench_connectors::peer::PeerAddress;

use psbench_connectors::ConnectorSpec;
use uuid::Uuid;

use super::checks::{absolute, distinct, within};
use super::choices::{ConnectorName, ExecutorName, LifetimeName, Named, ZMQ, choose, choose_any};
use super::interop::EXTERNAL;
use super::{OptionError, StreamScalingOptions, server};
use crate::plan::{ExecutorKind, GeneratorKind, Method, ObjectLifetime, PayloadSource, Pregenerate};
use crate::units::{Seconds, Size};

const DATA_SIZES: [Size; 3] = [Size::from_bytes(100_000), Size::from_bytes(1_000_000), Size::from_bytes(10_000_000)];
const METHODS: [Method; 2] = [Method::Default, Method::Proxy];
/// Fewer that compute would leave the dispatcher without a choice between workers.
const LEAST_DEFAULT_COMPUTING: u32 = 3;
/// More are a mistake, which would only exhaust memory.
const MOST_GENERATORS: u32 = 1024;
/// Of objects in memory, where two of the largest items are not more.
const MEMORY_LIMIT: u64 = 1 << 30;

impl StreamScalingOptions {
    pub(super) fn methods(&mut self, notes: &mut Vec<String>) -> Result<Vec<Method>, OptionError> {
        if self.stream_method.is_empty() {
            self.stream_method = METHODS.map(|method| method.name().to_owned()).to_vec();
        }
        distinct("--stream-method", &mut self.stream_method, notes);
        self.stream_method.iter().map(|name| choose(name)).collect()
    }

    pub(super) fn data_sizes(&mut self, notes: &mut Vec<String>) -> Result<Vec<Size>, OptionError> {
        if self.data_size_bytes.is_empty() {
            self.data_size_bytes = DATA_SIZES.to_vec();
        }
        if self.data_size_bytes.contains(&Size::from_bytes(0)) {
            return Err(OptionError::invalid("--data-size-bytes", &0, "an item has at least 1 byte"));
        }
        distinct("--data-size-bytes", &mut self.data_size_bytes, notes);
        Ok(self.data_size_bytes.clone())
    }

    /// How many workers generate.
    pub(super) fn generators(&mut self, kind: GeneratorKind, task_count: u64) -> Result<u32, OptionError> {
        const OPTION: &str = "--generators";
        let generators = within(OPTION, *self.generators.get_or_insert(1), 1..=MOST_GENERATORS)?;
        let invalid = |problem| Err(OptionError::invalid(OPTION, &generators, problem));
        if generators > 1 && kind == GeneratorKind::External {
            return invalid(format!("another program generates with {EXTERNAL}; leave one of the two out"));
        }
        if u64::from(generators) > task_count {
            return invalid(format!("more than --task-count {task_count}; write at most as many"));
        }
        Ok(generators)
    }

    /// Refuses one port for several generators that serve what they store.
    pub(super) fn check_port(
        &self,
        connector: &ConnectorSpec,
        methods: &[Method],
        generators: u32,
    ) -> Result<(), OptionError> {
        match connector.fixed_port() {
            Some(port) if generators > 1 && methods.contains(&Method::Proxy) => {
                let problem =
                    format!("each of {generators} generators listens at a port of its own; leave it out for free ones");
                Err(OptionError::invalid("--ps-port", &port, problem))
            }
            _ => Ok(()),
        }
    }

    /// The numbers of workers to sweep, so many of which generate; and how many the executor starts, where it was told to start more than
    /// one of these.
    pub(super) fn workers(
        &mut self,
        executor: ExecutorKind,
        generators: u32,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<u32>, Option<u32>), OptionError> {
        let (pool_option, pool) = match executor {
            ExecutorKind::Process => ("--process-pool-max-workers", self.process_pool_max_workers),
            ExecutorKind::Thread => ("--thread-pool-max-workers", self.thread_pool_max_workers),
            ExecutorKind::Parsl => ("--parsl-max-workers", self.parsl_max_workers),
            ExecutorKind::Dask => ("--dask-workers", self.dask_workers),
            ExecutorKind::Globus
            | ExecutorKind::Mpi
            | ExecutorKind::Python
            | ExecutorKind::Slurm
            | ExecutorKind::Ssh
            | ExecutorKind::Own(_) => ("--max-workers", None),
        };
        let mut option = "--max-workers";
        if self.max_workers.is_empty() {
            option = pool.map_or(option, |_| pool_option);
            self.max_workers.push(pool.unwrap_or_else(|| default_workers(generators)));
        }
        distinct(option, &mut self.max_workers, notes);
        if let Some(few) = self.max_workers.iter().find(|workers| **workers <= generators) {
            let generate = if generators == 1 { "one generates".into() } else { format!("{generators} generate") };
            let problem = format!("at least {} workers: {generate}, the others compute", generators + 1);
            return Err(OptionError::invalid(option, few, problem));
        }
        let Some(pool) = pool else { return Ok((self.max_workers.clone(), None)) };
        if let Some(more) = self.max_workers.iter().find(|workers| **workers > pool) {
            let problem = format!("fewer than --max-workers {more}; write at least as many");
            return Err(OptionError::invalid(pool_option, &pool, problem));
        }
        let larger = self.max_workers.iter().any(|workers| *workers < pool);
        Ok((self.max_workers.clone(), larger.then_some(pool)))
    }

    pub(super) fn executor(&mut self) -> Result<ExecutorKind, OptionError> {
        Ok(match choose_any(self.executor.get_or_insert_with(|| "process".into()))? {
            Named::Ours(name) => match name {
                ExecutorName::Dask => ExecutorKind::Dask,
                ExecutorName::Globus => ExecutorKind::Globus,
                ExecutorName::Mpi => ExecutorKind::Mpi,
                ExecutorName::Parsl => ExecutorKind::Parsl,
                ExecutorName::Process => ExecutorKind::Process,
                ExecutorName::Python => ExecutorKind::Python,
                ExecutorName::Slurm => ExecutorKind::Slurm,
                ExecutorName::Ssh => ExecutorKind::Ssh,
                ExecutorName::Thread => ExecutorKind::Thread,
            },
            Named::Own(name) => ExecutorKind::Own(name),
        })
    }

    pub(super) fn connector(&mut self, sizes: &[Size], notes: &mut Vec<String>) -> Result<ConnectorSpec, OptionError> {
        self.serve_zmq_by_peer(notes);
        let name = match choose_any(self.ps_connector.get_or_insert_with(|| "peer".into()))? {
            Named::Ours(name) => {
                if self.ps_place.is_some() {
                    notes.push("--ps-place has no effect with psbench's own connectors".into());
                }
                name
            }
            Named::Own(name) => return Ok(ConnectorSpec::own(name, self.ps_place.clone().unwrap_or_default())),
        };
        self.connector_called(name, sizes, notes)
    }

    pub(super) fn connector_called(
        &mut self,
        name: ConnectorName,
        sizes: &[Size],
        notes: &mut Vec<String>,
    ) -> Result<ConnectorSpec, OptionError> {
        Ok(match name {
            ConnectorName::Endpoint => ConnectorSpec::Endpoint(self.endpoint()?),
            ConnectorName::File => {
                let dir = self
                    .ps_file_dir
                    .as_ref()
                    .ok_or(OptionError::Missing { option: "--ps-file-dir", needed_by: "--ps-connector file" })?;
                let dir = absolute("--ps-file-dir", dir)?;
                ConnectorSpec::File { dir: self.ps_file_dir.insert(dir).clone() }
            }
            ConnectorName::Memory => ConnectorSpec::Memory { space: Uuid::new_v4(), limit: self.memory_limit(sizes)? },
            ConnectorName::Multi => self.multi(sizes, notes)?,
            ConnectorName::Peer => ConnectorSpec::Peer {
                address: self.tcp_address("peer", notes)?.unwrap_or_else(PeerAddress::private),
                limit: self.memory_limit(sizes)?,
            },
            ConnectorName::S3 => ConnectorSpec::S3(self.s3()?),
            ConnectorName::Redis => ConnectorSpec::Redis(self.redis_store()?),
            ConnectorName::Scistream => self.scistream(sizes, notes)?,
            ConnectorName::Shm => ConnectorSpec::Shm { limit: self.memory_limit(sizes)? },
        })
    }

    pub(super) fn lifetime(&mut self, notes: &mut Vec<String>) -> Result<ObjectLifetime, OptionError> {
        let lease = self.ps_lease.map(Seconds::duration);
        let name = *self.ps_lifetime.get_or_insert(LifetimeName::Owned);
        if lease.is_some() && name != LifetimeName::Leased {
            notes.push("--ps-lease has no effect without --ps-lifetime leased".into());
        }
        Ok(match name {
            LifetimeName::Owned => ObjectLifetime::Owned,
            LifetimeName::Run => ObjectLifetime::Run,
            LifetimeName::Static => ObjectLifetime::Static,
            LifetimeName::Leased => match lease {
                None => return Err(OptionError::Missing { option: "--ps-lease", needed_by: "--ps-lifetime leased" }),
                Some(Duration::ZERO) => {
                    return Err(OptionError::invalid("--ps-lease", &0, "a lease lasts; write more than 0"));
                }
                Some(lease) => ObjectLifetime::Leased(lease),
            },
        })
    }

    /// Where ProxyStore's users say `zmq`. Like there, a port alone asks for TCP, but only for this host: who listens to others is told so.
    fn serve_zmq_by_peer(&mut self, notes: &mut Vec<String>) {
        if !self.ps_connector.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(ZMQ)) {
            return;
        }
        notes.push(
            "--ps-connector zmq is served by peer: workers fetch from the generator's memory, without ZeroMQ and its copies"
                .into(),
        );
        self.ps_connector = Some("peer".into());
        if self.ps_port.is_some() && self.ps_interface.is_none() {
            if self.ps_address.is_none() {
                notes.push(
                    "--ps-port without --ps-address listens on 127.0.0.1; give an address that workers elsewhere reach"
                        .into(),
                );
            }
            self.ps_address.get_or_insert_with(|| "127.0.0.1".into());
        }
    }

    /// Where a connector serves over TCP, if it is told where.
    pub(super) fn tcp_address(
        &mut self,
        connector: &str,
        notes: &mut Vec<String>,
    ) -> Result<Option<PeerAddress>, OptionError> {
        if let (None, Some(interface)) = (&self.ps_address, &self.ps_interface) {
            self.ps_address = Some(server::of_interface("--ps-interface", interface)?);
        }
        Ok(match &self.ps_address {
            Some(host) => {
                let (host, port) = (server::host("--ps-address", host)?, self.ps_port.unwrap_or(0));
                Some(match &self.ps_advertise {
                    None => PeerAddress::Tcp { host, port },
                    Some(announced) => {
                        PeerAddress::Announced { host, port, announced: server::host("--ps-advertise", announced)? }
                    }
                })
            }
            None => {
                if self.ps_advertise.is_some() {
                    return Err(OptionError::Missing { option: "--ps-address", needed_by: "--ps-advertise" });
                }
                if self.ps_port.is_some() && !self.has_redis_beside() {
                    notes.push(format!("--ps-port has no effect with --ps-connector {connector} without --ps-address"));
                }
                None
            }
        })
    }

    /// Whether another path, or another part of one, is redis, whose port --ps-port is, too.
    fn has_redis_beside(&self) -> bool {
        let parts = self.ps_multi.iter().filter_map(|part| part.split(',').next());
        self.paths.iter().map(String::as_str).chain(parts).any(|name| name == "redis")
    }

    pub(super) fn memory_limit(&mut self, sizes: &[Size]) -> Result<u64, OptionError> {
        let largest = sizes.iter().max().map_or(0, |size| size.bytes());
        let default = Size::from_bytes(MEMORY_LIMIT.max(largest.saturating_mul(2)));
        let limit = *self.ps_memory_limit.get_or_insert(default);
        if limit.bytes() < largest {
            let problem = format!("less than one item of {}; write more", Size::from_bytes(largest));
            return Err(OptionError::invalid("--ps-memory-limit", &limit, problem));
        }
        let all = largest.saturating_mul(self.task_count.unwrap_or_default());
        if self.ps_lifetime == Some(LifetimeName::Run) && limit.bytes() < all {
            let problem = format!(
                "--ps-lifetime run keeps all items of a trial, {} here; write that much, or use --ps-lifetime owned",
                Size::from_bytes(all)
            );
            return Err(OptionError::invalid("--ps-memory-limit", &limit, problem));
        }
        Ok(limit.bytes())
    }

    pub(super) fn max_inflight(&self, sizes: &[Size]) -> Result<Option<u64>, OptionError> {
        let Some(limit) = self.max_inflight_bytes else { return Ok(None) };
        match sizes.iter().max() {
            Some(largest) if largest.bytes() > limit.bytes() => {
                let problem = format!("less than one item of {largest}; write at least that");
                Err(OptionError::invalid("--max-inflight-bytes", &limit, problem))
            }
            _ => Ok(Some(limit.bytes())),
        }
    }

    pub(super) fn inflight_items(&self, generators: u32) -> Result<Option<u64>, OptionError> {
        const OPTION: &str = "--max-inflight-items";
        let Some(items) = self.max_inflight_items else { return Ok(None) };
        if items < generators.into() {
            let problem = format!("each of --generators {generators} needs one; write at least that");
            return Err(OptionError::invalid(OPTION, &items, problem));
        }
        within(OPTION, items, 1..=u32::MAX.into()).map(Some)
    }

    pub(super) fn payload(&mut self, notes: &mut Vec<String>) -> Result<PayloadSource, OptionError> {
        let Some(path) = &self.payload_file else {
            let pregenerate = *self.pregenerate.get_or_insert(Pregenerate::Auto);
            return Ok(PayloadSource::Random { pregenerate });
        };
        let unusable = |source| OptionError::File { option: "--payload-file", path: path.clone(), source };
        let metadata = fs::metadata(path).map_err(unusable)?;
        // Not to be opened: a named pipe would block.
        if !metadata.is_file() {
            return Err(OptionError::invalid("--payload-file", &path.display(), "not a regular file"));
        }
        File::open(path).map_err(unusable)?;
        let absolute = absolute("--payload-file", path)?;
        if metadata.len() == 0 {
            return Err(OptionError::invalid("--payload-file", &path.display(), "the file is empty"));
        }
        for (option, given) in [("--pregenerate", self.pregenerate.is_some()), ("--seed", self.seed.is_some())] {
            if given {
                notes.push(format!("{option} has no effect with --payload-file"));
            }
        }
        Ok(PayloadSource::File(absolute))
    }

    pub(super) fn timeout(&self) -> Result<Option<Duration>, OptionError> {
        match self.timeout.map(Seconds::duration) {
            Some(Duration::ZERO) => Err(OptionError::invalid("--timeout", &0, "a trial needs time; write more than 0")),
            timeout => Ok(timeout),
        }
    }

    /// Bytes of resolved objects that a worker keeps.
    pub(super) fn cache(&mut self, notes: &mut Vec<String>) -> u64 {
        let cache = self.ps_cache.get_or_insert(Size::from_bytes(0)).bytes();
        if cache > 0 && matches!(self.ps_lifetime, None | Some(LifetimeName::Owned)) {
            notes.push("--ps-cache has no effect with --ps-lifetime owned: each object is resolved once".into());
        }
        cache
    }
}

fn default_workers(generators: u32) -> u32 {
    let cpus = available_parallelism().map_or(1, NonZero::get);
    u32::try_from(cpus).unwrap_or(u32::MAX).max(generators + LEAST_DEFAULT_COMPUTING)
}
