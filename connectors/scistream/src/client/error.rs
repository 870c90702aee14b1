//! Why a user client gets no session.

use std::io;
use std::time::Duration;

use tonic::{Code, Status};

use super::UserClient;
use crate::control::causes;
use crate::dataserver::DataServerType;
use crate::forward::Target;
use crate::tls::TlsError;

/// Why a user client gets no session.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not where a control server could be.
    #[error("not a control server's address: {0:?}; expected host:port")]
    Address(String),
    /// It can't be sent.
    #[error("the token has characters that no token has")]
    Token,
    /// No key can be made.
    #[error("the system gives no random bytes")]
    Random,
    /// Nobody is there, or not who ought to be.
    #[error("can't connect to the control server at {address}: {}", causes(.source))]
    Connect {
        /// Where.
        address: Target,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It has to do with certificates.
    #[error("the control server at {address} {why}")]
    Barred {
        /// Where.
        address: Target,
        /// What it did, and why.
        why: String,
    },
    /// A certificate or a key is not what it should be.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no thread or descriptor left.
    #[error("cannot ask: {0}")]
    System(#[source] io::Error),
    /// This process gives back all its paths.
    #[error("the paths of this process were given back, since it is about to exit")]
    Exiting,
    /// No answer came.
    #[error(
        "the control server at {address} did not answer {rpc} within {} s{}",
        .limit.as_secs_f64(),
        waits(rpc)
    )]
    Timeout {
        /// Where.
        address: Target,
        /// What was asked.
        rpc: &'static str,
        /// For so long.
        limit: Duration,
    },
    /// The control server answered that it won't.
    #[error("the control server at {address} refused {rpc}: {message} ({code:?}){}", remedy(rpc, *.code))]
    Refused {
        /// Where.
        address: Target,
        /// What was asked.
        rpc: &'static str,
        /// In gRPC's words; the reference says `UNKNOWN` to anything.
        code: Code,
        /// In its own words.
        message: String,
    },
    /// The control server gave something else than what was asked for.
    #[error("the control server at {address} answered {rpc} with {problem}")]
    Answer {
        /// Where.
        address: Target,
        /// What was asked.
        rpc: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The control server does not say that it does what was wished for: the reference's does not hear of wishes.
    #[error(
        "the control server at {address} does not say that it uses {wish}, so it is not psbench's; leave the {option} out"
    )]
    Unheard {
        /// Where.
        address: Target,
        /// What it was asked for.
        wish: String,
        /// What the option that asks for it is called.
        option: &'static str,
    },
    /// A path needs two.
    #[error("the control server at {0} can't have both ends of one path; name another at one side")]
    OneServer(Target),
    /// The two gateways would not understand each other.
    #[error(
        "{producer_address} uses {} and {consumer_address} uses {}, which don't understand each other; {}",
        told(*.producer),
        told(*.consumer),
        one_type(*.producer, *.consumer)
    )]
    Types {
        /// The producer's control server.
        producer_address: Target,
        /// Its type; `None`: it does not tell.
        producer: Option<DataServerType>,
        /// The consumer's control server.
        consumer_address: Target,
        /// Its type; `None`: it does not tell.
        consumer: Option<DataServerType>,
    },
}

fn told(kind: Option<DataServerType>) -> String {
    kind.map_or_else(|| "what it does not tell".into(), |kind| kind.to_string())
}

fn one_type(producer: Option<DataServerType>, consumer: Option<DataServerType>) -> &'static str {
    if producer.is_some() && consumer.is_some() {
        "ask both for one type"
    } else {
        "ask for each half by itself (inbound-request, outbound-request), psbench's with a type that the other has, too"
    }
}

fn waits(rpc: &str) -> &'static str {
    if rpc == "req" { "; a request waits for the application's hello" } else { "" }
}

fn remedy(rpc: &str, code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "; give it a token that is valid there",
        Code::Unimplemented if rpc == "status" => "; only psbench's control servers tell of their sessions",
        Code::Unimplemented => "; it does not speak SciStream's control protocol",
        _ => "",
    }
}

impl ClientError {
    /// Whether a control server that is starting again may be why. One that takes its time has had enough.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Refused { code: Code::Unavailable, .. })
    }

    pub(super) fn refused(client: &UserClient, rpc: &'static str, status: &Status) -> Self {
        let message = match std::error::Error::source(status) {
            Some(cause) if status.message().is_empty() => causes(cause),
            _ => status.message().to_owned(),
        };
        Self::Refused { address: client.address.clone(), rpc, code: status.code(), message }
    }

    pub(super) fn answer(client: &UserClient, rpc: &'static str, problem: impl Into<String>) -> Self {
        Self::Answer { address: client.address.clone(), rpc, problem: problem.into() }
    }

    /// gRPC's status, where the control server gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Of which control server this is.
    pub fn address(&self) -> Option<&Target> {
        match self {
            Self::Connect { address, .. }
            | Self::Barred { address, .. }
            | Self::Timeout { address, .. }
            | Self::Refused { address, .. }
            | Self::Answer { address, .. }
            | Self::Unheard { address, .. }
            | Self::OneServer(address) => Some(address),
            Self::Address(_)
            | Self::Token
            | Self::Random
            | Self::Tls(_)
            | Self::System(_)
            | Self::Exiting
            | Self::Types { .. } => None,
        }
    }

    /// Whether what failed made no session: one that is there under that name is another request's, or another client's.
    pub(super) fn leaves_nothing(&self) -> bool {
        match self {
            Self::Refused { code: Code::AlreadyExists | Code::PermissionDenied, .. } => true,
            // The reference's word for anything, and gRPC's for a connection that broke.
            Self::Refused { code: Code::Unknown, message, .. } => message.contains("Entry already found"),
            // It may have been granted, and the answer lost.
            Self::Refused { code: Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable, .. } => false,
            Self::Refused { rpc, .. } => *rpc == "req",
            _ => false,
        }
    }

    /// Whether the control server does not know the session (yet).
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Refused { code: Code::NotFound, .. } => true,
            // The reference's words, among which are those of its gRPC library.
            Self::Refused { code: Code::Unknown, message, .. } => message.contains("entry not found"),
            _ => false,
        }
    }
}
