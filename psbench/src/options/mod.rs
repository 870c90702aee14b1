//! The options of `psbench stream-scaling`: command line, recipe file and what the results record are one struct.

mod access;
mod broker;
mod checks;
mod choices;
mod door;
mod effect;
mod engine;
mod error;
mod interop;
mod multi;
mod parts;
mod paths;
mod planning;
mod pool;
mod recipe;
mod redis;
mod scistream;
mod secret;
mod server;
mod stores;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ArgAction;
use psbench_connectors::OWN_CONNECTORS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::access::{AccessOptions, Named, TOKEN, Trusted, data_server_type};
pub(crate) use self::checks::utf8_path;
pub use self::choices::LifetimeName;
use self::choices::{ConnectorName, ExecutorName, NameOf, ParslExecutor, StreamName};
pub(crate) use self::engine::choose_python;
pub use self::error::OptionError;
pub use self::interop::{Interop, OF_GENERATE};
pub use self::planning::{Outputs, Planned};
pub(crate) use self::planning::{RUN_DIR, USE_A_BROKER, USE_A_CONNECTOR};
pub(crate) use self::secret::read_secret;
use crate::logging::LogLevel;
use crate::plan::{GeneratorKind, Method, Pregenerate, SubmitMode, TaskKind};
use crate::sweep::OWN_EXECUTORS;
use crate::units::{Rate, Seconds, Size};

const BENCHMARK: &str = "Benchmark";
const EXECUTOR: &str = "Executor";
const ENGINE: &str = "Engine";
const STORE: &str = "Store";
const REDIS: &str = "Redis";
const SCISTREAM: &str = "SciStream";
const STREAM: &str = "Stream";
const GENERAL: &str = "General";

/// All options; each is absent where neither command line nor recipe gives it.
///
/// Names that choose an implementation are kept as written, so that the options of ProxyStore's psbench that have no
/// counterpart here get an answer of their own from [`plan`](Self::plan). Of an option given twice the last one counts, as with
/// argparse, and lists are no exception: hence their action.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StreamScalingOptions {
    /// Ways of the bulk data, each measured with all else equal: broker (in full, through it), broker-via-scistream (as with
    /// --stream-via-scistream), or a connector's name, of which scistream:TYPE says what forwards at its gateways [default: broker shm peer
    /// scistream]
    #[arg(long, help_heading = BENCHMARK, value_name = "PATH", num_args = 1.., action = ArgAction::Set)]
    pub paths: Vec<String>,

    /// Sizes of an item, each swept [default: 100kB 1MB 10MB]
    #[arg(long, help_heading = BENCHMARK, value_name = "SIZE", num_args = 1.., action = ArgAction::Set, allow_negative_numbers = true, value_delimiter = ',')]
    pub data_size_bytes: Vec<Size>,

    /// Workers, each number swept: --generators of them generate, unless these are local, the others compute [default: the executor's own option, else
    /// the CPUs but at least 3 beside the generators]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", num_args = 1.., action = ArgAction::Set, allow_negative_numbers = true, value_parser = checks::whole::<u32>, value_delimiter = ',')]
    pub max_workers: Vec<u32>,

    /// Workers that generate the stream together: they take turns, item by item [default: 1]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub generators: Option<u32>,

    /// How items travel [default: default proxy]
    #[arg(long, help_heading = BENCHMARK, value_name = "METHOD", num_args = 1.., action = ArgAction::Set, value_parser = NameOf::<Method>::new(), value_delimiter = ',')]
    pub stream_method: Vec<String>,

    /// Items of each trial; of an external generator, at most [default: 500]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u64>)]
    pub task_count: Option<u64>,

    /// How long a task works on its item [default: 0s]
    #[arg(long, help_heading = BENCHMARK, value_name = "SECONDS", allow_negative_numbers = true)]
    pub task_sleep: Option<Seconds>,

    /// What a task does with its item [default: sleep]
    #[arg(long, help_heading = BENCHMARK)]
    pub task: Option<TaskKind>,

    /// Items due each second, over all generators, or `max` [default: one each task-sleep / (max-workers − generators)]
    #[arg(long, help_heading = BENCHMARK, value_name = "N/s", allow_negative_numbers = true)]
    pub rate: Option<Rate>,

    /// Tasks waiting at each worker beyond the one it runs, or at an engine for each of its workers [default: 0, or 15 where each item is
    /// a task of an engine that psbench starts]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub prefetch: Option<u32>,

    /// The most bytes of items that the dispatcher holds, waiting or at workers [default: 64MiB, or twice what workers can
    /// hold]
    #[arg(long, help_heading = BENCHMARK, value_name = "SIZE", allow_negative_numbers = true)]
    pub max_inflight_bytes: Option<Size>,

    /// The most items under way where the rate is `max`, the same for both methods: made, and not yet done with [default: twice what
    /// workers can hold or 64, up to 1024 below 66kB, within --max-inflight-bytes]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u64>)]
    pub max_inflight_items: Option<u64>,

    /// Whether random items are made ahead of the run and used in turn [default: auto]
    #[arg(long, help_heading = BENCHMARK)]
    pub pregenerate: Option<Pregenerate>,

    /// Replay this file as the items' bytes [default: random bytes]
    #[arg(long, help_heading = BENCHMARK, value_name = "FILE", value_parser = utf8_path())]
    pub payload_file: Option<PathBuf>,

    /// Seed of the random bytes [default: a new one each time]
    #[arg(long, help_heading = BENCHMARK, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u64>)]
    pub seed: Option<u64>,

    /// Check each item's checksum at its worker [default: false]
    #[arg(long, help_heading = BENCHMARK, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub verify: Option<bool>,

    /// Count items that finish later than this after they were due [default: none]
    #[arg(long, help_heading = BENCHMARK, value_name = "SECONDS", allow_negative_numbers = true)]
    pub deadline: Option<Seconds>,

    /// Give up a trial after this long [default: by its plan: twice the ideal time, all bytes at 10 MB/s, and a minute]
    #[arg(long, help_heading = BENCHMARK, value_name = "SECONDS", allow_negative_numbers = true)]
    pub timeout: Option<Seconds>,

    /// Configuration of ADIOS; for --stream-method adios, which is not here
    #[arg(long, help_heading = BENCHMARK, value_name = "FILE", hide = true, value_parser = utf8_path())]
    pub adios_file: Option<PathBuf>,

    /// Where tasks run [default: process]
    #[arg(long, help_heading = EXECUTOR, value_name = "NAME", value_parser = NameOf::<ExecutorName>::new())]
    pub executor: Option<String>,

    /// Worker processes to start [default: as --max-workers]
    #[arg(long, help_heading = EXECUTOR, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub process_pool_max_workers: Option<u32>,

    /// Worker threads to start [default: as --max-workers]
    #[arg(long, help_heading = EXECUTOR, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub thread_pool_max_workers: Option<u32>,

    /// Threads of each worker process that compute; --max-workers counts them all [default: 1]
    #[arg(long, help_heading = EXECUTOR, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub threads_per_worker: Option<u32>,

    /// Replace a worker process after so many tasks, which bounds what leaks [default: never]
    #[arg(long, help_heading = EXECUTOR, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u64>)]
    pub max_tasks_per_worker: Option<u64>,

    /// End a worker process without a task for this long; it is started again when there are tasks for it [default: never]
    #[arg(long, help_heading = EXECUTOR, value_name = "SECONDS", allow_negative_numbers = true)]
    pub worker_idle: Option<Seconds>,

    /// Most address space of a worker process, a generator's included: one that leaks ends itself. From 1.25GB up, for its
    /// program, threads and some items [default: no limit]
    #[arg(long, help_heading = EXECUTOR, value_name = "SIZE", allow_negative_numbers = true)]
    pub worker_memory: Option<Size>,

    /// Cores of each worker process: block, alternating, or list:0,1:2,3 [default: all]
    #[arg(long, help_heading = EXECUTOR, value_name = "CORES")]
    pub cpu_affinity: Option<String>,

    /// End a task that takes longer, and its worker process with it [default: none]
    #[arg(long, help_heading = EXECUTOR, value_name = "SECONDS", allow_negative_numbers = true)]
    pub task_timeout: Option<Seconds>,

    /// What travels through an engine [default: task; of mpi, slurm and ssh pilot]
    #[arg(long, help_heading = ENGINE)]
    pub submit: Option<SubmitMode>,

    /// Items that are one task of the engine: fewer while it has workers to spare [default: 1]
    #[arg(long, help_heading = ENGINE, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub submit_batch: Option<u32>,

    /// Python with the engine's package [default: $PSBENCH_PYTHON, or that of the virtual environment psbench is in, or python3]
    #[arg(long, help_heading = ENGINE, value_name = "PROGRAM", value_parser = utf8_path())]
    pub python: Option<PathBuf>,

    /// Any engine with the shape of concurrent.futures.Executor: what makes one, with the number of workers where it takes one.
    /// Required with --executor python
    #[arg(long, help_heading = ENGINE, value_name = "MODULE:NAME")]
    pub python_executor: Option<String>,

    /// Parsl's executor: thread, htex-local or htex-polaris-headless [default: htex-local]
    #[arg(long, help_heading = ENGINE, value_name = "NAME", value_parser = NameOf::<ParslExecutor>::new())]
    pub parsl_executor: Option<String>,

    /// Workers of Parsl to start [default: as --max-workers]
    #[arg(long, help_heading = ENGINE, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub parsl_max_workers: Option<u32>,

    /// In place of --parsl-executor: a Python file with `config`, a parsl.Config or a function that makes one
    #[arg(long, help_heading = ENGINE, value_name = "FILE", value_parser = utf8_path())]
    pub parsl_config: Option<PathBuf>,

    /// A scheduler of Dask's that runs already [default: a cluster on this host]
    #[arg(long, help_heading = ENGINE, value_name = "ADDR")]
    pub dask_scheduler: Option<String>,

    /// Workers of Dask to start [default: as --max-workers]
    #[arg(long, help_heading = ENGINE, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub dask_workers: Option<u32>,

    /// Dask's workers are threads of one process [default: false]
    #[arg(long, help_heading = ENGINE, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub dask_use_threads: Option<bool>,

    /// The endpoint of Globus Compute; required with --executor globus
    #[arg(long, help_heading = ENGINE, value_name = "UUID")]
    pub globus_compute_endpoint: Option<String>,

    /// The program that starts workers [default: mpiexec, srun or ssh]
    #[arg(long, help_heading = ENGINE, value_name = "PROGRAM")]
    pub launcher: Option<String>,

    /// Options of that program: --launcher-option=--partition=debug
    #[arg(long, help_heading = ENGINE, value_name = "OPTION", num_args = 1.., action = ArgAction::Append, allow_hyphen_values = true)]
    pub launcher_option: Vec<String>,

    /// Where ssh starts workers, in turn; required with --executor ssh
    #[arg(long, help_heading = ENGINE, value_name = "HOST", num_args = 1.., action = ArgAction::Set)]
    pub hosts: Vec<String>,

    /// Options of an executor that this program adds to psbench's, in its own form
    #[arg(long, help_heading = ENGINE, value_name = "NAME=VALUE", num_args = 1.., action = ArgAction::Append,
          hide = OWN_EXECUTORS.names().is_empty())]
    pub executor_option: Vec<String>,

    /// Where the dispatcher listens for workers that connect [default: 127.0.0.1]
    #[arg(long, help_heading = ENGINE, value_name = "ADDRESS", value_parser = server::address)]
    pub worker_listen: Option<IpAddr>,

    /// The port there [default: any free one]
    #[arg(long, help_heading = ENGINE, value_name = "PORT", allow_negative_numbers = true, value_parser = checks::whole::<u16>)]
    pub worker_port: Option<u16>,

    /// The host that workers are told to connect to, with a port where that is another than the dispatcher's, as a gateway's:
    /// HOST or HOST:PORT; with --worker-via-scistream, the host that the producer's gateway connects to [default: as --worker-listen,
    /// or this host's name where that is 0.0.0.0]
    #[arg(long, help_heading = ENGINE, value_name = "ADDRESS")]
    pub worker_connect: Option<String>,

    /// Workers connect by TLS [default: false]
    #[arg(long, help_heading = ENGINE, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub worker_tls: Option<bool>,

    /// Workers connect through the gateways of --scistream-producer-s2cs and --scistream-consumer-s2cs, of which the producer's connects to
    /// the dispatcher [default: false]
    #[arg(long, help_heading = ENGINE, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub worker_via_scistream: Option<bool>,

    /// psbench on the hosts of workers [default: this program]
    #[arg(long, help_heading = ENGINE, value_name = "PROGRAM", value_parser = utf8_path())]
    pub worker_program: Option<PathBuf>,

    /// Most time until the engine is there, and then until its workers are [default: 120s]
    #[arg(long, help_heading = ENGINE, value_name = "SECONDS", allow_negative_numbers = true)]
    pub engine_timeout: Option<Seconds>,

    /// Where bulk data lives under the proxy method [default: peer]
    #[arg(long, help_heading = STORE, value_name = "NAME", value_parser = NameOf::<ConnectorName>::new())]
    pub ps_connector: Option<String>,

    /// Directory of the file connector; required there
    #[arg(long, help_heading = STORE, value_name = "DIR", value_parser = utf8_path())]
    pub ps_file_dir: Option<PathBuf>,

    /// ProxyStore's endpoints, of which the endpoint connector uses the first that answers; required there
    #[arg(long, help_heading = STORE, value_name = "UUID", num_args = 1.., action = ArgAction::Set)]
    pub ps_endpoints: Vec<String>,

    /// Connectors of the multi connector, each a NAME and, after commas, what it takes: min=SIZE, max=SIZE, priority=N, host=REGEX (of
    /// hosts that store), tag=NAME (any number). Of those that take an object the highest priority gets it, then the first; required
    /// there
    #[arg(long, help_heading = STORE, value_name = "PART", num_args = 1.., action = ArgAction::Set)]
    pub ps_multi: Vec<String>,

    /// Tags that a part must have for the objects of this run [default: none]
    #[arg(long, help_heading = STORE, value_name = "NAME", num_args = 1.., action = ArgAction::Set)]
    pub ps_tags: Vec<String>,

    /// Server of the redis connector: a host or a URL, as --stream-servers takes them [default: localhost]
    #[arg(long, help_heading = STORE, value_name = "HOST|URL")]
    pub ps_host: Option<String>,

    /// Port of the redis connector [default: 6379], or of --ps-address [default: any free one]
    #[arg(long, help_heading = STORE, value_name = "PORT", allow_negative_numbers = true, value_parser = checks::whole::<u16>)]
    pub ps_port: Option<u16>,

    /// Bucket of the s3 connector, which must exist; required there. Credentials are taken from AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment of psbench and its workers
    #[arg(long, help_heading = STORE, value_name = "BUCKET")]
    pub ps_s3_bucket: Option<String>,

    /// First part of the names of objects in the bucket [default: psbench]
    #[arg(long, help_heading = STORE, value_name = "PREFIX")]
    pub ps_s3_prefix: Option<String>,

    /// The service of the s3 connector, with http:// or https:// [default: AWS]
    #[arg(long, help_heading = STORE, value_name = "URL")]
    pub ps_s3_endpoint: Option<String>,

    /// The bucket's region [default: us-east-1]
    #[arg(long, help_heading = STORE, value_name = "NAME")]
    pub ps_s3_region: Option<String>,

    /// The peer connector serves over TCP at this address of the generator's host [default: a Unix socket]; the scistream connector does
    /// so in any case [default: the address on the way to the producer's gateway]
    #[arg(long, help_heading = STORE, value_name = "HOST")]
    pub ps_address: Option<String>,

    /// What workers are told to connect to in place of --ps-address [default: the same, or the host's name where that is 0.0.0.0]
    #[arg(long, help_heading = STORE, value_name = "HOST")]
    pub ps_advertise: Option<String>,

    /// In place of --ps-address: the address that this network interface has where psbench is started
    #[arg(long, help_heading = STORE, value_name = "NAME")]
    pub ps_interface: Option<String>,

    /// The most that the memory, peer, scistream and shm connectors hold, for each generator [default: 1GiB, or two of the largest items]
    #[arg(long, help_heading = STORE, value_name = "SIZE", allow_negative_numbers = true)]
    pub ps_memory_limit: Option<Size>,

    /// What each worker keeps of objects it resolved [default: 0B]
    #[arg(long, help_heading = STORE, value_name = "SIZE", allow_negative_numbers = true)]
    pub ps_cache: Option<Size>,

    /// How long stored objects stay [default: owned]
    #[arg(long, help_heading = STORE, value_name = "LIFETIME")]
    pub ps_lifetime: Option<LifetimeName>,

    /// How long a leased object stays after it was stored; required with --ps-lifetime leased
    #[arg(long, help_heading = STORE, value_name = "SECONDS", allow_negative_numbers = true)]
    pub ps_lease: Option<Seconds>,

    /// Place of a connector that this program adds to psbench's, in its own form
    #[arg(long, help_heading = STORE, value_name = "TEXT", hide = OWN_CONNECTORS.names().is_empty())]
    pub ps_place: Option<String>,

    /// Protocol of ProxyStore's Margo connector
    #[arg(long, help_heading = STORE, value_name = "NAME", hide = true)]
    pub ps_margo_protocol: Option<String>,

    /// Configuration of ProxyStore's Globus connector
    #[arg(long, help_heading = STORE, value_name = "FILE", hide = true, value_parser = utf8_path())]
    pub ps_globus_config: Option<PathBuf>,

    /// Pool of ProxyStore's DAOS connector
    #[arg(long, help_heading = STORE, value_name = "NAME", hide = true)]
    pub ps_daos_pool: Option<String>,

    /// Container of ProxyStore's DAOS connector
    #[arg(long, help_heading = STORE, value_name = "NAME", hide = true)]
    pub ps_daos_container: Option<String>,

    /// Namespace of ProxyStore's DAOS connector
    #[arg(long, help_heading = STORE, value_name = "NAME", hide = true)]
    pub ps_daos_namespace: Option<String>,

    /// The servers of --stream-servers and --ps-host are sentinels (several with commas), which know the master of this name
    #[arg(long, help_heading = REDIS, value_name = "NAME")]
    pub redis_sentinel: Option<String>,

    /// The certificates of authorities to trust with rediss://, or the servers' own [default: the system's authorities]
    #[arg(long, help_heading = REDIS, value_name = "FILE", value_parser = utf8_path())]
    pub redis_ca_file: Option<PathBuf>,

    /// psbench's own certificate, for servers that want one
    #[arg(long, help_heading = REDIS, value_name = "FILE", value_parser = utf8_path())]
    pub redis_cert_file: Option<PathBuf>,

    /// Its key
    #[arg(long, help_heading = REDIS, value_name = "FILE", value_parser = utf8_path())]
    pub redis_key_file: Option<PathBuf>,

    /// The control server of the gateway at the generators' side: HOST:PORT
    #[arg(long, help_heading = SCISTREAM, value_name = "ADDR")]
    pub scistream_producer_s2cs: Option<String>,

    /// The control server of the gateway at the workers' side: HOST:PORT
    #[arg(long, help_heading = SCISTREAM, value_name = "ADDR")]
    pub scistream_consumer_s2cs: Option<String>,

    /// The same for what workers of one site fetch by --ps-connector scistream. They have its NAME as PSBENCH_SITE in their environment, or as
    /// --site of psbench worker
    #[arg(long, help_heading = SCISTREAM, value_name = "NAME=ADDR", num_args = 1.., action = ArgAction::Append)]
    pub scistream_site: Vec<String>,

    /// Start both on this host, for this sweep alone [default: true where none is named]
    #[arg(long, help_heading = SCISTREAM, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub scistream_local: Option<bool>,

    /// The control servers' certificates, or those of authorities that signed them
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_server_cert: Option<PathBuf>,

    /// The certificate of the producer's, where it is another
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_producer_cert: Option<PathBuf>,

    /// The certificates of the consumers', where they are others
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_consumer_cert: Option<PathBuf>,

    /// Trust the authorities that this system trusts [default: false]
    #[arg(long, help_heading = SCISTREAM, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub scistream_system_roots: Option<bool>,

    /// Ask without TLS: whoever is on the way can read tokens and sessions' keys [default: false]
    #[arg(long, help_heading = SCISTREAM, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub scistream_insecure: Option<bool>,

    /// psbench's own certificate, for control servers that want one
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_client_cert: Option<PathBuf>,

    /// The key of --scistream-client-cert
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_client_key: Option<PathBuf>,

    /// A file with the token for the control servers, in place of the environment's PSBENCH_S2CS_TOKEN
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_token_file: Option<PathBuf>,

    /// The same for the producer's, where it has one of its own
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_producer_token_file: Option<PathBuf>,

    /// The same for the consumers', where they have one of their own
    #[arg(long, help_heading = SCISTREAM, value_name = "FILE", value_parser = utf8_path())]
    pub scistream_consumer_token_file: Option<PathBuf>,

    /// What forwards: copy, splice, sockmap, quic, tls, haproxy, stunnel or nginx [default: as the control servers have it]
    #[arg(long, help_heading = SCISTREAM, value_name = "TYPE")]
    pub scistream_type: Option<String>,

    /// Ports of each path of --ps-connector scistream, at each gateway; connections are spread over them. Other paths have one [default: 1]
    #[arg(long, help_heading = SCISTREAM, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u16>)]
    pub scistream_num_conn: Option<u16>,

    /// The rate to ask for, in kb/s; control servers that enforce rates keep to it [default: none in particular]
    #[arg(long, help_heading = SCISTREAM, value_name = "KBPS", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub scistream_rate: Option<u32>,

    /// Connections between the gateways that are made ahead of time, for each port; with copy, splice and sockmap they go on to the
    /// target at once, where they are idle until a client comes [default: as the control servers have it]
    #[arg(long, help_heading = SCISTREAM, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub scistream_preconnect: Option<u32>,

    /// Connections between the gateways that carry one of psbench's together [default: as the control servers have it]
    #[arg(long, help_heading = SCISTREAM, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub scistream_stripes: Option<u32>,

    /// The broker [default: memory]
    #[arg(long, help_heading = STREAM, value_name = "NAME", value_parser = NameOf::<StreamName>::new())]
    pub stream: Option<String>,

    /// First part of each trial's topic; of psbench generate and an external generator, all of it [default: stream-benchmark-data]
    #[arg(long, help_heading = STREAM, value_name = "NAME")]
    pub stream_topic: Option<String>,

    /// The broker's server; of Kafka one or more, required there. Of Redis also redis://USER@HOST:PORT/DATABASE, rediss:// for TLS,
    /// redis+unix:///PATH, redis+cluster://HOST:PORT; its password is taken from PSBENCH_REDIS_PASSWORD, and the user from
    /// PSBENCH_REDIS_USERNAME, in the environment of psbench and its workers [default: localhost:6379]
    #[arg(long, help_heading = STREAM, value_name = "HOST:PORT|URL", num_args = 1.., action = ArgAction::Set)]
    pub stream_servers: Vec<String>,

    /// The dispatcher reaches the broker through two gateways of SciStream (--scistream-…), generators directly [default: false]
    #[arg(long, help_heading = STREAM, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub stream_via_scistream: Option<bool>,

    /// Partitions of each trial's topic, which are ordered each for itself [default: 1]
    #[arg(long, help_heading = STREAM, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub stream_partitions: Option<u32>,

    /// Replicas of each trial's topic [default: the broker's]
    #[arg(long, help_heading = STREAM, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u16>)]
    pub stream_replication: Option<u16>,

    /// How long each trial's topic keeps messages; it is deleted after the trial [default: the broker's]
    #[arg(long, help_heading = STREAM, value_name = "SECONDS", allow_negative_numbers = true)]
    pub stream_retention: Option<Seconds>,

    /// The largest batch of messages that each trial's topic takes, its max.message.bytes [default: what the items need]
    #[arg(long, help_heading = STREAM, value_name = "SIZE", allow_negative_numbers = true)]
    pub stream_max_message_bytes: Option<Size>,

    /// Properties of Kafka's clients, as librdkafka has them: acks=1, linger.ms=5, security.protocol=SASL_SSL … Secrets come from
    /// the environment of psbench and its workers, for example PSBENCH_KAFKA_SASL_PASSWORD
    #[arg(long, help_heading = STREAM, value_name = "KEY=VALUE", num_args = 1.., action = ArgAction::Append)]
    pub kafka_option: Vec<String>,

    /// Speak another program's streams instead of psbench's own; over Redis or Kafka, with the endpoint, file or redis connector, or several of these
    #[arg(long, help_heading = STREAM)]
    pub interop: Option<Interop>,

    /// Who generates [default: internal]
    ///
    /// A local one runs beside the dispatcher, whatever the executor: workers of an engine all compute then. It is the default where an
    /// engine's workers are known to be on other hosts, from which they could not reach this one.
    ///
    /// An external one is another program (psbench generate, or a StreamProducer) that publishes to --stream-topic. There is one
    /// trial then: --stream-method and --ps-connector say what is expected of it, and the size recorded is the mean of what came.
    #[arg(long, help_heading = STREAM)]
    pub generator: Option<GeneratorKind>,

    /// Name of the table of results in the run directory [default: results.csv]
    #[arg(long, help_heading = GENERAL, value_name = "FILE", value_parser = utf8_path())]
    pub csv_file: Option<PathBuf>,

    /// Name of the log in the run directory [default: log.txt]
    #[arg(long, help_heading = GENERAL, value_name = "FILE", value_parser = utf8_path())]
    pub log_file: Option<PathBuf>,

    /// Keep each item's stages as trace-NNNN.parquet in the run directory, a file for each trial [default: false]
    #[arg(long, help_heading = GENERAL, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub trace: Option<bool>,

    /// What is logged at the terminal [default: BENCH]
    #[arg(long, help_heading = GENERAL, value_name = "LEVEL", ignore_case = true)]
    pub log_level: Option<LogLevel>,

    /// What is logged in the log file [default: INFO]
    #[arg(long, help_heading = GENERAL, value_name = "LEVEL", ignore_case = true)]
    pub log_file_level: Option<LogLevel>,

    /// Trials of each size, method and number of workers [default: 1]
    #[arg(long, help_heading = GENERAL, value_name = "N", allow_negative_numbers = true, value_parser = checks::whole::<u32>)]
    pub repeat: Option<u32>,

    /// Where the directory of this run is made [default: runs]
    #[arg(long, help_heading = GENERAL, value_name = "DIR", value_parser = utf8_path())]
    pub run_dir: Option<PathBuf>,
}
