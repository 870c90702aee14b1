//! Halves of a path, at one control server each, as the usual user client asks for them.

use scistream::Role;
use scistream::UserClient;
use scistream::client::{ClientError, Granted, SessionRequest, Way, Wishes};
use scistream::dataserver::{DataServerType, MOST_AHEAD, MOST_STRIPES, Target, Transport};
use uuid::Uuid;

use super::access::Access;
use super::output::{GREETED, Half, announce, name, print_json, print_listeners, texts};
use super::{S2ucError, unless_interrupted};
use crate::cli::gateway::{List, underscores_too, yes_or_no};
use crate::cli::{Ending, print};
use crate::options::{OptionError, data_server_type};
use crate::units::Seconds;

/// The session of `--mock True`, which the tutorials of SciStream's name later on.
const MOCK: Uuid = Uuid::from_u128(0x4f85_83bc_a4d3_11ee_9fd6_034d_1fcb_d7c3);

/// A session's name, where nobody gave it one.
#[derive(Clone, Debug, clap::Args)]
struct NewSession {
    /// The session of SciStream's tutorials
    #[arg(long, value_name = "True|False", value_parser = yes_or_no, action = clap::ArgAction::Set, default_value = "False", hide = true)]
    mock: bool,
}

impl NewSession {
    fn uid(&self) -> Uuid {
        if self.mock { MOCK } else { Uuid::new_v4() }
    }
}

/// What a session is to be like.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Session")]
pub(super) struct SessionOptions {
    /// In kb/s; control servers that enforce rates keep to it
    #[arg(long, value_name = "KBPS", default_value_t = 10_000)]
    rate: u32,

    #[command(flatten)]
    pub(super) wishes: WishOptions,
}

/// What psbench's control servers can be asked for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Session")]
pub(super) struct WishOptions {
    /// What forwards: copy, splice, sockmap, quic, tls, haproxy, stunnel or nginx [default: as the control server has it]
    #[arg(long = "type", value_name = "TYPE", value_parser = data_server_type)]
    kind: Option<DataServerType>,

    /// What is forwarded
    #[arg(long, value_name = "tcp|udp", default_value = "tcp", value_parser = transport)]
    transport: Transport,

    /// Connections to the other gateway that are made ahead of time, for each port, up to 64; quic keeps 16 at most. With copy,
    /// splice and sockmap they go on to the target at once, where they are idle until a client comes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_AHEAD)))]
    preconnect: Option<u32>,

    /// Connections to the other gateway that carry one stream together, up to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_STRIPES)))]
    stripes: Option<u32>,
}

impl WishOptions {
    /// Without a key: there is none that both gateways could get.
    pub(super) fn wishes(&self) -> Wishes {
        let Self { kind, transport, preconnect, stripes } = *self;
        Wishes { kind, key: None, transport, preconnect, stripes, attended: None }
    }
}

fn transport(text: &str) -> Result<Transport, String> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        _ => Err("there are tcp and udp".to_owned()),
    }
}

/// Where an application listens.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Application")]
struct Application {
    /// The application's host, as the gateway reaches it
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    remote_ip: String,

    /// The application's ports, between commas
    #[arg(long, value_name = "PORTS", default_value = "5074,5075,5076,37000,47000")]
    receiver_ports: List<u16>,
}

impl Application {
    fn targets(&self) -> Result<Vec<Target>, OptionError> {
        // Names of hosts have no colon, so addresses that do are IPv6's.
        let bare = self.remote_ip.trim_matches(['[', ']']);
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let target = |port: &u16| {
            let text = format!("{host}:{port}");
            text.parse()
                .map_err(|_| OptionError::invalid("--remote-ip and --receiver-ports", &text, "not a HOST and a PORT"))
        };
        self.receiver_ports.0.iter().map(target).collect()
    }
}

/// `inbound-request`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct InboundRequest {
    /// Ports to ask for
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Session")]
    num_conn: u16,

    #[command(flatten)]
    session: SessionOptions,

    #[command(flatten)]
    new: NewSession,

    #[command(flatten)]
    application: Application,

    #[command(flatten)]
    access: Access,

    /// Print JSON: uid, s2cs, listeners, prod_listeners, type
    #[arg(long)]
    json: bool,
}

impl InboundRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let application = self.application.targets()?;
        let half = Asked::new(self.new.uid(), Role::Producer, self.num_conn, &self.session, &self.access, self.json)?;
        half.make(
            &[
                "sending client request message",
                "started client request",
                "waiting for hello message",
                "sending for hello message",
            ],
            async |client, request, greeted| client.half(request, &application, greeted).await,
        )
        .await
    }
}

/// `outbound-request`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct OutboundRequest {
    /// The session, as inbound-request printed it
    #[arg(value_name = "UID")]
    uid: Uuid,

    /// The listeners that inbound-request printed, between commas
    #[arg(value_name = "PROD_LSTN")]
    prod_listeners: List<Target>,

    /// Ports to ask for
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Session")]
    num_conn: u16,

    #[command(flatten)]
    session: SessionOptions,

    /// Of no effect here: the usual user client has it for both halves
    #[arg(long, value_name = "HOST", hide = true)]
    remote_ip: Option<String>,

    /// Of no effect here: the usual user client has it for both halves
    #[arg(long, value_name = "PORTS", hide = true)]
    receiver_ports: Option<String>,

    #[command(flatten)]
    access: Access,

    /// Print JSON: uid, s2cs, listeners, prod_listeners, type
    #[arg(long)]
    json: bool,
}

impl OutboundRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let half = Asked::new(self.uid, Role::Consumer, self.num_conn, &self.session, &self.access, self.json)?;
        half.make(&["started client request", "waiting for hello message"], async |client, request, greeted| {
            client.half(request, &self.prod_listeners.0, greeted).await
        })
        .await
    }
}

/// `prod-req`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct ProdRequest {
    /// Ports to ask for
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Session")]
    num_conn: u16,

    #[command(flatten)]
    session: SessionOptions,

    /// How long to wait for the application's hello
    #[arg(long, value_name = "SECONDS", default_value = "180s", help_heading = "Session")]
    wait: Seconds,

    #[command(flatten)]
    new: NewSession,

    #[command(flatten)]
    access: Access,

    /// Print JSON: uid, s2cs, listeners, prod_listeners, type. Whoever says hello has to know the session before, though: it is in the
    /// second of the lines that are printed without this option
    #[arg(long)]
    json: bool,
}

impl ProdRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let half = Asked::new(self.new.uid(), Role::Producer, self.num_conn, &self.session, &self.access, self.json)?;
        let wait = self.wait.duration();
        half.make(WAITING, async |client, request, _| client.prod_req(request, wait).await).await
    }
}

/// What is printed while somebody else is to say hello.
const WAITING: &[&str] = &["waiting for hello message", "started client request"];

/// `cons-req`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct ConsRequest {
    /// The session, as prod-req printed it
    #[arg(value_name = "UID")]
    uid: Uuid,

    /// The listeners that prod-req printed, between commas
    #[arg(value_name = "PROD_LSTN")]
    prod_listeners: List<Target>,

    /// Ports to ask for
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Session")]
    num_conn: u16,

    #[command(flatten)]
    session: SessionOptions,

    /// How long to wait for the application's hello
    #[arg(long, value_name = "SECONDS", default_value = "180s", help_heading = "Session")]
    wait: Seconds,

    #[command(flatten)]
    access: Access,

    /// Print JSON: uid, s2cs, listeners, prod_listeners, type
    #[arg(long)]
    json: bool,
}

impl ConsRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let half = Asked::new(self.uid, Role::Consumer, self.num_conn, &self.session, &self.access, self.json)?;
        let wait = self.wait.duration();
        half.make(WAITING, async |client, request, _| client.cons_req(request, &self.prod_listeners.0, wait).await)
            .await
    }
}

/// Half of a path that is asked for.
struct Asked<'a> {
    request: SessionRequest,
    s2cs: &'a str,
    way: Way,
    json: bool,
}

impl<'a> Asked<'a> {
    fn new(
        uid: Uuid,
        role: Role,
        num_conn: u16,
        session: &SessionOptions,
        access: &'a Access,
        json: bool,
    ) -> Result<Self, S2ucError> {
        let request = SessionRequest { uid, role, num_conn, rate: session.rate, wishes: session.wishes.wishes() };
        Ok(Self { request, s2cs: &access.s2cs, way: access.way()?, json })
    }

    /// `steps`: what the usual user client prints of its own, up to hello. `ask` gets what is to be called once that was heard.
    async fn make(
        self,
        steps: &[&str],
        ask: impl AsyncFnOnce(&UserClient, &SessionRequest, &dyn Fn()) -> Result<Granted, ClientError>,
    ) -> Result<Ending, S2ucError> {
        let uid = self.request.uid;
        let client = self.way.connect().await?;
        if !self.json {
            // Before anything is asked: whoever says hello reads it here.
            announce(uid, self.s2cs, self.way.token(), self.request.role)?;
            steps.iter().try_for_each(print)?;
        }
        let greeted = || {
            if !self.json {
                // If it can't be printed, the listeners can't either, which ends psbench.
                let _ = print(GREETED);
            }
        };
        let work =
            async { ask(&client, &self.request, &greeted).await.map_err(|error| self.way.explain(error).into()) };
        let undo = async {
            let _ = client.release(uid).await;
        };
        let Some(granted) = unless_interrupted(work, undo).await? else { return Ok(Ending::Interrupted) };
        if self.json {
            print_json(&Half {
                uid,
                s2cs: self.s2cs,
                listeners: texts(&granted.listeners),
                prod_listeners: &granted.prod_listeners,
                kind: name(granted.kind),
            })?;
        } else {
            print_listeners(&granted.listeners)?;
        }
        Ok(Ending::Success)
    }
}

/// `hello`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct HelloRequest {
    /// The session
    #[arg(value_name = "UID")]
    uid: Uuid,

    /// The application's side: PROD says where it listens, CONS asks where to connect
    #[arg(long, value_name = "PROD|CONS", default_value = "PROD")]
    role: Role,

    #[command(flatten)]
    application: Application,

    #[command(flatten)]
    access: Access,

    /// Print JSON: message, listeners
    #[arg(long)]
    json: bool,
}

impl HelloRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let application = match self.role {
            Role::Producer => self.application.targets()?,
            Role::Consumer => Vec::new(),
        };
        let way = self.access.way()?;
        let client = way.connect().await?;
        let work = async {
            client
                .hello_once_requested(self.uid, self.role, &application)
                .await
                .map_err(|error| way.explain(error).into())
        };
        let Some(greeting) = unless_interrupted(work, async {}).await? else { return Ok(Ending::Interrupted) };
        if self.json {
            let listeners = texts(&greeting.listeners);
            print_json(&serde_json::json!({ "message": greeting.message, "listeners": listeners }))?;
        } else {
            print(&greeting.message)?;
            print_listeners(&greeting.listeners)?;
        }
        Ok(Ending::Success)
    }
}

/// `release`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct ReleaseRequest {
    /// The session
    #[arg(value_name = "UID")]
    uid: Uuid,

    #[command(flatten)]
    access: Access,
}

impl ReleaseRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let way = self.access.way()?;
        let client = way.connect().await?;
        client.release(self.uid).await.map_err(|error| way.explain(error))?;
        print("Release completed")?;
        Ok(Ending::Success)
    }
}
