//! Whole paths, at both control servers.

use std::path::PathBuf;

use scistream::client::{ClientError, ConnectRequest, Gateways, Ways};
use scistream::dataserver::Target;
use serde::Serialize;
use uuid::Uuid;

use super::access::{Side, Trust};
use super::output::{name, print_json, texts};
use super::requests::WishOptions;
use super::{S2ucError, unless_interrupted};
use crate::cli::gateway::{List, underscores_too};
use crate::cli::{Ending, print};
use crate::options::Named;
use crate::terminal;

/// The control servers of both sides.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Control servers")]
struct Both {
    /// The control server at the producer's side: HOST:PORT
    #[arg(long, value_name = "ADDR")]
    producer_s2cs: String,

    /// The control server at the consumer's side: HOST:PORT
    #[arg(long, value_name = "ADDR")]
    consumer_s2cs: String,

    /// The producer's control server's certificate, where it is not --server-cert
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    producer_cert: Option<PathBuf>,

    /// The consumer's control server's certificate, where it is not --server-cert
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    consumer_cert: Option<PathBuf>,

    /// A file with the token for the producer's control server, where it has one of its own
    #[arg(long, value_name = "FILE")]
    producer_token_file: Option<PathBuf>,

    /// A file with the token for the consumer's control server, where it has one of its own
    #[arg(long, value_name = "FILE")]
    consumer_token_file: Option<PathBuf>,

    #[command(flatten)]
    trust: Trust,
}

impl Both {
    fn ways(&self) -> Result<Ways, S2ucError> {
        let producer = Side {
            s2cs: Named { option: "--producer-s2cs", value: &self.producer_s2cs },
            certificate: self.producer_cert.as_deref(),
            token_file: Named { option: "--producer-token-file", value: self.producer_token_file.as_deref() },
        };
        let consumer = Side {
            s2cs: Named { option: "--consumer-s2cs", value: &self.consumer_s2cs },
            certificate: self.consumer_cert.as_deref(),
            token_file: Named { option: "--consumer-token-file", value: self.consumer_token_file.as_deref() },
        };
        let gateways = Gateways { producer: self.trust.access(&producer)?, consumer: self.trust.access(&consumer)? };
        Ok(gateways.ways().map_err(ClientError::Tls)?)
    }
}

/// `connect`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct Connect {
    /// Where the producer's application listens, as the producer's gateway reaches it: HOST:PORT; several between commas, or the option
    /// several times, are taken in turn
    #[arg(long, value_name = "ADDR", required = true)]
    target: Vec<List<Target>>,

    /// Ports to ask for, at each gateway
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Session")]
    num_conn: u16,

    /// In kb/s; control servers that enforce rates keep to it; 0: none in particular
    #[arg(long, value_name = "KBPS", default_value_t = 0, help_heading = "Session")]
    rate: u32,

    /// The session's name [default: a random one]
    #[arg(long, value_name = "UUID", help_heading = "Session")]
    uid: Option<Uuid>,

    #[command(flatten)]
    wishes: WishOptions,

    #[command(flatten)]
    both: Both,

    /// Print JSON: uid, listeners, producer_listeners, producer_type, consumer_type
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Connected {
    uid: Uuid,
    listeners: Vec<String>,
    producer_listeners: Vec<String>,
    producer_type: Option<String>,
    consumer_type: Option<String>,
}

impl Connect {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let ways = self.both.ways()?;
        let request = ConnectRequest {
            uid: self.uid.unwrap_or_else(Uuid::new_v4),
            targets: self.target.iter().flat_map(|list| &list.0).cloned().collect(),
            num_conn: self.num_conn,
            rate: self.rate,
            wishes: self.wishes.wishes(),
        };
        let work = async { Ok(ways.connect_path(&request).await?) };
        let undo = async {
            let _ = tokio::join!(ways.producer.release(request.uid), ways.consumer.release(request.uid));
        };
        let Some(path) = unless_interrupted(work, undo).await? else { return Ok(Ending::Interrupted) };
        if self.json {
            print_json(&Connected {
                uid: path.uid,
                listeners: texts(&path.listeners),
                producer_listeners: texts(&path.producer_listeners),
                producer_type: name(path.producer_type),
                consumer_type: name(path.consumer_type),
            })?;
            return Ok(Ending::Success);
        }
        for listener in &path.listeners {
            print(listener)?;
        }
        // Not among the addresses, which scripts read.
        terminal::tell(format_args!(
            "session {0}; to give it back: psbench s2uc disconnect {0} --producer-s2cs {1} --consumer-s2cs {2}",
            path.uid, self.both.producer_s2cs, self.both.consumer_s2cs
        ));
        Ok(Ending::Success)
    }
}

/// `disconnect`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct Disconnect {
    /// The session
    #[arg(value_name = "UID")]
    uid: Uuid,

    #[command(flatten)]
    both: Both,
}

impl Disconnect {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let ways = self.both.ways()?;
        // Each for itself: one that can't be reached must not keep the other's half.
        let (at_producer, at_consumer) = tokio::join!(ways.producer.release(self.uid), ways.consumer.release(self.uid));
        match (at_producer, at_consumer) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(other)) => {
                terminal::tell(format_args!("error: {error}"));
                return Err(other.into());
            }
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        }
        print("Release completed")?;
        Ok(Ending::Success)
    }
}
