//! How to reach a control server, and by which right.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ClientError, ClientOptions, ConnectRequest, ConnectedPath, UserClient, connect_path};
use crate::forward::Target;
use crate::tls::{ClientTls, Pem, TlsError};

/// How to reach a control server, and by which right: all of it, so that it may travel to another host. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatewayAccess {
    /// Where it listens.
    pub address: Target,
    /// Whom to trust there; `None`: whoever answers, without TLS.
    pub tls: Option<GatewayTls>,
    /// The raw value of the `authorization` metadata.
    pub token: Option<String>,
    /// How long connecting, and each request, may take.
    pub time_limit: Duration,
}

/// Which control servers are trusted, and how a client makes itself known to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatewayTls {
    /// Those with one of these certificates, or with one that an authority among them signed; `None`: those of whom the system's
    /// authorities know.
    pub pinned: Option<Pem>,
    /// The client's own certificate and its key, for servers that ask for one.
    pub client: Option<(Pem, Pem)>,
}

impl GatewayAccess {
    /// Without TLS and token, with the reference's limit.
    pub fn plain(address: Target) -> Self {
        Self { address, tls: None, token: None, time_limit: ClientOptions::default().time_limit }
    }

    /// What connects.
    ///
    /// # Errors
    /// Certificates or keys are not what they should be.
    pub fn way(&self) -> Result<Way, TlsError> {
        let tls = self.tls.as_ref().map(GatewayTls::client).transpose()?;
        let config = tls.as_ref().map(ClientTls::config);
        let options = ClientOptions { tls: config, token: self.token.clone(), time_limit: self.time_limit };
        Ok(Way { address: self.address.clone(), options, tls })
    }
}

impl GatewayTls {
    fn client(&self) -> Result<ClientTls, TlsError> {
        match &self.pinned {
            Some(servers) => ClientTls::pinned_to(servers, self.client.as_ref()),
            None => ClientTls::system_roots(self.client.as_ref()),
        }
    }
}

impl fmt::Debug for GatewayAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, tls, token, time_limit } = self;
        f.debug_struct("GatewayAccess")
            .field("address", address)
            .field("tls", tls)
            .field("token", &token.is_some())
            .field("time_limit", time_limit)
            .finish()
    }
}

/// The control servers at both ends of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gateways {
    /// At the producer's side.
    pub producer: GatewayAccess,
    /// At the consumer's side.
    pub consumer: GatewayAccess,
}

/// A way to a control server, which knows why it is barred.
#[derive(Clone, Debug)]
pub struct Way {
    address: Target,
    options: ClientOptions,
    tls: Option<ClientTls>,
}

impl Way {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or not who ought to be.
    pub async fn connect(&self) -> Result<UserClient, ClientError> {
        UserClient::connect(&self.address.to_string(), &self.options).await.map_err(|error| self.explain(error))
    }

    /// Ends a session, over a connection of its own.
    ///
    /// # Errors
    /// The control server can't be reached, or refuses.
    pub async fn release(&self, uid: Uuid) -> Result<(), ClientError> {
        self.connect().await?.release(uid).await.map_err(|error| self.explain(error))
    }

    /// Asks for a session, over a connection of its own.
    pub(super) async fn status(&self, uid: Uuid) -> Result<(), ClientError> {
        self.connect().await?.status(Some(uid)).await.map(drop).map_err(|error| self.explain(error))
    }

    /// An error at this control server, in the words of who knows its certificates.
    pub fn explain(&self, error: ClientError) -> ClientError {
        let barred = |address: &Target, why| ClientError::Barred { address: address.clone(), why };
        match (&error, &self.tls) {
            (ClientError::Connect { address, source }, Some(tls)) => match tls.explain(source) {
                Some(why) => barred(address, format!("can't be asked: {why}")),
                None => error,
            },
            // With TLS 1.3 a server looks at the client's certificate when the client has begun to ask, and what it says of it may be lost.
            (ClientError::Refused { address, message, .. }, Some(_)) if broke_off(message) => {
                let why =
                    format!("ended the connection ({message}); perhaps it wants a client's certificate that it knows");
                barred(address, why)
            }
            // Only what is asked first fails at that: without TLS there is nothing to say before.
            (ClientError::Refused { address, message, .. }, None) if broke_off(message) => {
                barred(address, format!("ended the connection ({message}); perhaps it wants TLS"))
            }
            _ => error,
        }
    }

    /// How long connecting, and each request, may take.
    pub(super) fn time_limit(&self) -> Duration {
        self.options.time_limit
    }

    /// The token that is shown there.
    pub fn token(&self) -> Option<&str> {
        self.options.token.as_deref()
    }
}

/// Whether that is said here, of a connection, and not by a control server.
fn broke_off(message: &str) -> bool {
    const WORDS: [&str; 6] = [
        "CertificateRequired",
        "operation was canceled",
        "transport error",
        "connection error",
        "broken pipe",
        "http2 error",
    ];
    WORDS.iter().any(|words| message.contains(words))
}

/// Ways to both ends.
#[derive(Clone, Debug)]
pub struct Ways {
    /// To the producer's.
    pub producer: Way,
    /// To the consumer's.
    pub consumer: Way,
}

impl Gateways {
    /// What connects.
    ///
    /// # Errors
    /// Certificates or keys are not what they should be.
    pub fn ways(&self) -> Result<Ways, TlsError> {
        Ok(Ways { producer: self.producer.way()?, consumer: self.consumer.way()? })
    }
}

impl Ways {
    /// Makes a path through both gateways.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses; what was made is released at both.
    pub async fn connect_path(&self, request: &ConnectRequest) -> Result<ConnectedPath, ClientError> {
        let (producer, consumer) = tokio::try_join!(self.producer.connect(), self.consumer.connect())?;
        connect_path(&producer, &consumer, request).await.map_err(|error| {
            let way = if error.address() == Some(consumer.address()) { &self.consumer } else { &self.producer };
            way.explain(error)
        })
    }
}
