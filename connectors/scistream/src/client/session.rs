//! One session at one control server.

use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{ClientError, UserClient};
use crate::dataserver::DataServerType;
use crate::forward::{SECRET_LEN, Target, Transport};
use crate::{Role, proto};

/// Between the first two hellos to a control server that does not know the session yet; later ones wait longer.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// How long a request, whose hello came to nothing, has to say that it was refused itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a user client asks for.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The session, by the same name at both control servers.
    pub uid: Uuid,
    /// Which side it is to be.
    pub role: Role,
    /// Ports.
    pub num_conn: u16,
    /// In kb/s; 0: none in particular.
    pub rate: u32,
    /// What psbench's control servers can be asked for beyond that.
    pub wishes: Wishes,
}

/// What psbench's control servers can be asked for; the reference's don't hear of it.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wishes {
    /// Of data server; `None`: the server's default.
    pub kind: Option<DataServerType>,
    /// What both gateways are to know, and nobody else.
    pub key: Option<[u8; SECRET_LEN]>,
    /// What is forwarded.
    pub transport: Transport,
    /// Connections between the gateways that are made ahead of time, for each port; 64 at most.
    pub preconnect: Option<u32>,
    /// Connections between the gateways that carry one stream together; 1 to 32.
    pub stripes: Option<u32>,
    /// Seconds, 1 to 86,400, after which the session ends if nobody has asked for its status, and nothing has gone through it.
    pub attended: Option<u32>,
}

impl std::fmt::Debug for Wishes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, key, transport, preconnect, stripes, attended } = self;
        f.debug_struct("Wishes")
            .field("kind", kind)
            .field("key", &key.is_some())
            .field("transport", transport)
            .field("preconnect", preconnect)
            .field("stripes", stripes)
            .field("attended", attended)
            .finish()
    }
}

impl Wishes {
    /// What a control server, which tells of this type, has not heard of, and the option that asks for it.
    fn unheard(&self, told: Option<DataServerType>) -> Option<(String, &'static str)> {
        if let Some(kind) = self.kind
            && told != Some(kind)
        {
            return Some((format!("type {kind}"), "type"));
        }
        if told.is_some() {
            return None;
        }
        let more = |asked: Option<u32>, than| asked.filter(|asked| *asked > than);
        if self.transport == Transport::Udp {
            Some(("UDP".into(), "transport"))
        } else if let Some(stripes) = more(self.stripes, 1) {
            Some((format!("{stripes} stripes"), "stripes"))
        } else {
            more(self.preconnect, 0).map(|ahead| (format!("{ahead} connections ahead of time"), "preconnect"))
        }
    }
}

impl SessionRequest {
    pub(super) fn to_message(&self) -> proto::Request {
        let Wishes { kind, key, transport, preconnect, stripes, attended } = &self.wishes;
        proto::Request {
            uid: self.uid.to_string(),
            role: self.role.to_string(),
            num_conn: self.num_conn.into(),
            rate: self.rate.try_into().unwrap_or(i32::MAX),
            wishes: Some(proto::Wishes {
                r#type: kind.map(|kind| kind.to_string()).unwrap_or_default(),
                key: key.map(Into::into).unwrap_or_default(),
                transport: match transport {
                    Transport::Tcp => String::new(),
                    Transport::Udp => "udp".into(),
                },
                preconnect: *preconnect,
                stripes: *stripes,
                attended: *attended,
            }),
        }
    }
}

/// What a control server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Where it accepts connections for the session.
    pub listeners: Vec<Target>,
    /// To a request: where the application listens; to an update: the target of each listener. As the server says it.
    pub prod_listeners: Vec<String>,
    /// Of data server; `None`: the server does not tell.
    pub kind: Option<DataServerType>,
}

impl Granted {
    pub(super) fn of(client: &UserClient, rpc: &'static str, answer: proto::Response) -> Result<Self, ClientError> {
        Ok(Self {
            listeners: listeners(client, rpc, &answer.listeners)?,
            prod_listeners: answer.prod_listeners,
            // One that is not known here is none that this client could have asked for.
            kind: answer.r#type.parse().ok(),
        })
    }
}

/// What a control server answers to hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// In words.
    pub message: String,
    /// To a consumer: where to connect.
    pub listeners: Vec<Target>,
}

impl Greeting {
    pub(super) fn of(client: &UserClient, answer: proto::AppResponse) -> Result<Self, ClientError> {
        Ok(Self { listeners: listeners(client, "hello", &answer.listeners)?, message: answer.message })
    }
}

fn listeners(client: &UserClient, rpc: &'static str, texts: &[String]) -> Result<Vec<Target>, ClientError> {
    let parse = |text: &String| text.parse();
    texts
        .iter()
        .map(parse)
        .collect::<Result<_, crate::VocabularyError>>()
        .map_err(|error| ClientError::answer(client, rpc, error.to_string()))
}

impl UserClient {
    /// The producer's half of a path: reserves ports, and forwards what they accept to the application.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn inbound(&self, request: &SessionRequest, application: &[Target]) -> Result<Granted, ClientError> {
        self.half(request, application, || ()).await
    }

    /// The consumer's half of a path: reserves ports, and forwards what they accept to the producer's gateway.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn outbound(&self, request: &SessionRequest, producer: &[Target]) -> Result<Granted, ClientError> {
        self.half(request, producer, || ()).await
    }

    /// [`inbound`](Self::inbound) or [`outbound`](Self::outbound), by the request's role. `greeted` is called once the control server
    /// has heard hello.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn half(
        &self,
        request: &SessionRequest,
        targets: &[Target],
        greeted: impl FnOnce(),
    ) -> Result<Granted, ClientError> {
        let reserved = self.reserve_and_tell(request, Role::Producer, targets, greeted).await?;
        self.or_release(request.uid, self.update(request.uid, request.role, targets).await).await?;
        Ok(reserved)
    }

    /// Reserves ports, waits as long as this for the application to say hello by itself, and forwards what they accept to it.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn prod_req(&self, request: &SessionRequest, wait: Duration) -> Result<Granted, ClientError> {
        let reserved = self.or_release(request.uid, self.req_within(request, wait).await).await?;
        self.or_release(request.uid, self.forward_to_application(request, &reserved).await).await?;
        Ok(reserved)
    }

    /// Reserves ports, waits as long as this for the application to say hello by itself, and forwards what they accept to the producer's
    /// gateway.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn cons_req(
        &self,
        request: &SessionRequest,
        producer: &[Target],
        wait: Duration,
    ) -> Result<Granted, ClientError> {
        let reserved = self.or_release(request.uid, self.req_within(request, wait).await).await?;
        self.or_release(request.uid, self.complete(request, &reserved)).await?;
        self.or_release(request.uid, self.update(request.uid, request.role, producer).await).await?;
        Ok(reserved)
    }

    async fn forward_to_application(&self, request: &SessionRequest, reserved: &Granted) -> Result<(), ClientError> {
        self.complete(request, reserved)?;
        let application = listeners(self, "req", &reserved.prod_listeners)?;
        self.update(request.uid, request.role, &application).await?;
        Ok(())
    }

    /// Reserves ports, and says hello in this role for the application.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time; what was made is released.
    pub async fn reserve(
        &self,
        request: &SessionRequest,
        hello: Role,
        application: &[Target],
    ) -> Result<Granted, ClientError> {
        self.reserve_and_tell(request, hello, application, || ()).await
    }

    async fn reserve_and_tell(
        &self,
        request: &SessionRequest,
        hello: Role,
        application: &[Target],
        greeted: impl FnOnce(),
    ) -> Result<Granted, ClientError> {
        let reserved = self.req_and_hello(request, hello, application, greeted).await;
        let reserved = reserved.and_then(|reserved| self.complete(request, &reserved).map(|()| reserved));
        self.or_release(request.uid, reserved).await
    }

    async fn req_and_hello(
        &self,
        request: &SessionRequest,
        hello: Role,
        application: &[Target],
        greeted: impl FnOnce(),
    ) -> Result<Granted, ClientError> {
        let mut asked = pin!(self.req(request));
        let hello = self.hello_once_requested(request.uid, hello, application);
        let answer = tokio::select! {
            biased;
            // What is granted was greeted before, whichever answer is seen first.
            reserved = &mut asked => return reserved.inspect(|_| greeted()),
            answer = hello => answer,
        };
        match answer {
            Ok(_) => {
                greeted();
                asked.await
            }
            // Which of both is heard first is chance, and only a request that was refused leaves nothing to release.
            Err(error) => match timeout(LAST_WORDS, asked).await {
                Ok(Err(refused)) => Err(refused),
                Ok(Ok(_)) | Err(_) => Err(error),
            },
        }
    }

    /// The reference's control server says nothing when it is short of ports, nor of wishes that it does not know.
    fn complete(&self, request: &SessionRequest, reserved: &Granted) -> Result<(), ClientError> {
        let (got, asked) = (reserved.listeners.len(), usize::from(request.num_conn));
        if got != asked {
            let problem = format!("{got} ports instead of {asked}: it has no more to give");
            return Err(ClientError::answer(self, "req", problem));
        }
        match request.wishes.unheard(reserved.kind) {
            Some((wish, option)) => Err(ClientError::Unheard { address: self.address.clone(), wish, option }),
            None => Ok(()),
        }
    }

    /// Says hello, again and again until the session is known: the reference's control server does not know one whose hello overtakes
    /// its request.
    ///
    /// # Errors
    /// The control server refuses, does not answer in time, or does not know the session within a request's time.
    pub async fn hello_once_requested(
        &self,
        uid: Uuid,
        role: Role,
        application: &[Target],
    ) -> Result<Greeting, ClientError> {
        let until = Instant::now() + self.time_limit;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.hello(uid, role, application).await {
                Err(error) if error.is_not_found() && Instant::now() + pause < until => sleep(pause).await,
                greeted => return greeted,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Leaves nothing behind at the control server where something failed, unless the session is another request's.
    pub(super) async fn or_release<T>(&self, uid: Uuid, made: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(error) = &made
            && !error.leaves_nothing()
        {
            // It may be gone already.
            let _ = self.release(uid).await;
        }
        made
    }
}
