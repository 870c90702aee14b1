//! Options that choose an implementation by its name.

use std::ffi::OsStr;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, ValueEnum};

use psbench_connectors::OWN_CONNECTORS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OptionError;
use crate::brokers::OWN_BROKERS;
use crate::plan::Method;
use crate::sweep::OWN_EXECUTORS;

/// Where tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExecutorName {
    /// Dask: a cluster on this host, or behind --dask-scheduler
    Dask,
    /// An endpoint of Globus Compute
    Globus,
    /// Ranks that mpiexec starts
    Mpi,
    /// Parsl
    Parsl,
    /// Worker processes on this host
    Process,
    /// Any other engine of Python's: see --python-executor
    Python,
    /// Tasks that srun starts, within an allocation of Slurm's or in one of their own
    Slurm,
    /// Processes that ssh starts on --hosts
    Ssh,
    /// Threads of psbench itself
    Thread,
}

/// A broker, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamName {
    /// Apache Kafka
    Kafka,
    /// Inside psbench; needs no server
    Memory,
    /// Redis pub/sub
    Redis,
    /// Redis lists: nothing is dropped when the dispatcher is slow
    RedisQueue,
}

/// An executor of Parsl's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ParslExecutor {
    /// Threads
    Thread,
    /// Worker processes on this host
    HtexLocal,
    /// Worker processes on the nodes of a job on Polaris
    HtexPolarisHeadless,
}

/// ProxyStore's name for what the peer connector does over ZeroMQ.
pub(super) const ZMQ: &str = "zmq";

/// A connector, without its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ConnectorName {
    /// An endpoint of ProxyStore
    Endpoint,
    /// Files in a directory
    File,
    /// The memory of psbench itself; for the thread executor
    Memory,
    /// Several of these, by the objects' sizes
    Multi,
    /// The generator's memory, served to workers over a socket
    #[value(alias = ZMQ)]
    Peer,
    /// A Redis server
    Redis,
    /// A bucket of S3 or of what speaks it
    S3,
    /// The generator's memory, through two gateways of SciStream
    Scistream,
    /// Memory that the generator shares with workers on its host, mapped and not copied
    Shm,
}

/// How long stored objects stay, without the length of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LifetimeName {
    /// Until a worker resolves it: each item has one use.
    Owned,
    /// Until its lease expires, see --ps-lease.
    Leased,
    /// Until the end of the trial.
    Run,
    /// For ever: psbench never deletes it.
    Static,
}

/// What one option chooses from.
pub(super) trait Choice: ValueEnum + 'static {
    /// The option.
    const OPTION: &'static str;

    /// Names of what the program brings with it.
    fn own() -> Vec<&'static str> {
        Vec::new()
    }

    /// Names that ProxyStore's psbench has and this one has not, with what comes nearest here, beginning with a separator,
    /// or nothing.
    const ELSEWHERE: &'static [(&'static str, &'static str)];
}

impl Choice for Method {
    const OPTION: &'static str = "--stream-method";
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[("adios", "")];
}

impl Choice for ExecutorName {
    const OPTION: &'static str = "--executor";
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[];

    fn own() -> Vec<&'static str> {
        OWN_EXECUTORS.names()
    }
}

impl Choice for ParslExecutor {
    const OPTION: &'static str = "--parsl-executor";
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[];
}

impl Choice for StreamName {
    const OPTION: &'static str = "--stream";
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[];

    fn own() -> Vec<&'static str> {
        OWN_BROKERS.names()
    }
}

impl Choice for ConnectorName {
    const OPTION: &'static str = "--ps-connector";
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[
        ("daos", " (daos needs a DAOS pool and container; file does the same job in a directory that all hosts mount)"),
        (
            "globus",
            " (globus needs credentials for Globus Transfer; file does the same job where all hosts mount the directory, s3 \
             across sites)",
        ),
        (
            "margo",
            " (margo needs the bindings of Mercury and libfabric; peer does the same job over TCP: workers fetch from the \
             generator's memory)",
        ),
        (
            "ucx",
            " (ucx needs the library UCX; peer does the same job over TCP: workers fetch from the generator's memory)",
        ),
    ];

    fn own() -> Vec<&'static str> {
        OWN_CONNECTORS.names()
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<T> {
    /// One of psbench's.
    Ours(T),
    /// One that the program brings with it.
    Own(&'static str),
}

/// The implementation called `name`, the program's included, or the line that lists what there is.
pub(super) fn choose_any<T: Choice>(name: &str) -> Result<Named<T>, OptionError> {
    match T::own().into_iter().find(|own| own.eq_ignore_ascii_case(name)) {
        Some(own) => Ok(Named::Own(own)),
        None => choose(name).map(Named::Ours),
    }
}

/// The implementation of psbench called `name`, or the line that lists what there is.
pub(super) fn choose<T: Choice>(name: &str) -> Result<T, OptionError> {
    choose_for(T::OPTION, name)
}

/// As [`choose`], where another option names it.
pub(super) fn choose_for<T: Choice>(option: &'static str, name: &str) -> Result<T, OptionError> {
    T::from_str(name, true).map_err(|_| {
        let available = possible_values::<T>().map(|value| value.get_name().to_owned());
        let own = T::own().into_iter().map(ToOwned::to_owned);
        let elsewhere = T::ELSEWHERE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        OptionError::NoSuchName {
            option,
            name: name.to_owned(),
            reason: if elsewhere.is_some() { "not in this version" } else { "unknown" },
            available: available.chain(own).collect::<Vec<_>>().join(", "),
            instead: elsewhere.map_or("", |(_, instead)| instead).to_owned(),
        }
    })
}

fn possible_values<T: ValueEnum + 'static>() -> impl Iterator<Item = PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value)
}

/// Takes any text, for [`choose`] to judge, and shows the names of `T` in help and completions.
#[derive(Clone)]
pub(super) struct NameOf<T>(PhantomData<fn() -> T>);

impl<T> NameOf<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Choice> TypedValueParser for NameOf<T> {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let name = StringValueParser::new().parse_ref(command, argument, value)?;
        // The Python tool takes its names in any case; recorded is the one by which it is known here.
        let known = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let known = known.flat_map(|value| value.get_name_and_aliases().map(ToOwned::to_owned).collect::<Vec<_>>());
        let mut known = known.chain(T::own().into_iter().map(ToOwned::to_owned));
        Ok(known.find(|known| known.eq_ignore_ascii_case(&name)).unwrap_or(name))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(possible_values::<T>().chain(T::own().into_iter().map(PossibleValue::new))))
    }
}

#[cfg(test)]
mod tests {
    use psbench_connectors::CONNECTORS;

    use super::*;
    use crate::brokers::BrokerChoice;
    use crate::plan::ExecutorKind;

    fn names<T: ValueEnum + 'static>() -> Vec<String> {
        possible_values::<T>().map(|value| value.get_name().to_owned()).collect()
    }

    #[test]
    fn names_agree_with_the_registries() {
        assert_eq!(names::<ExecutorName>(), ExecutorKind::NAMES);
        assert_eq!(names::<StreamName>(), BrokerChoice::NAMES);
        let texts = |value: &ConnectorName| {
            let value = value.to_possible_value().unwrap();
            (value.get_name().to_owned(), value.get_help().unwrap().to_string())
        };
        let ours: Vec<_> = ConnectorName::value_variants().iter().map(texts).collect();
        assert_eq!(ours, CONNECTORS.each_ref().map(|known| (known.name.to_owned(), known.summary.to_owned())));
    }

    #[test]
    fn what_is_not_here_gets_one_line() {
        let line = |name| choose::<ConnectorName>(name).unwrap_err().to_string();
        let there_are = "there are: endpoint, file, memory, multi, peer, redis, s3, scistream, shm";
        assert!(
            line("daos").starts_with(&format!("--ps-connector daos: not in this version; {there_are} (daos needs"))
        );
        for (name, instead) in [("daos", "file"), ("globus", "s3"), ("margo", "peer"), ("ucx", "peer")] {
            assert!(line(name).contains(instead) && !line(name).contains('\n'), "{}", line(name));
        }
        assert_eq!(line("disk"), format!("--ps-connector disk: unknown; {there_are}"));
    }
}
