//! A path through both gateways.

use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::session::{Granted, SessionRequest, Wishes};
use super::{ClientError, UserClient};
use crate::Role;
use crate::dataserver::DataServerType;
use crate::forward::{SECRET_LEN, Target};

/// What a path is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The session, by the same name at both control servers.
    pub uid: Uuid,
    /// Where the producer's application listens, as the producer's gateway reaches it.
    pub targets: Vec<Target>,
    /// Ports, at each gateway.
    pub num_conn: u16,
    /// In kb/s; 0: none in particular.
    pub rate: u32,
    /// Of both gateways. A key is made where there is none; a stunnel of psbench's beside the reference gets neither, as that has its
    /// key of the session's name: a random `uid` is a secret then.
    pub wishes: Wishes,
}

/// A path that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedPath {
    /// The session, at both control servers.
    pub uid: Uuid,
    /// Where the consumer's application connects.
    pub listeners: Vec<Target>,
    /// Where the consumer's gateway connects, at the producer's.
    pub producer_listeners: Vec<Target>,
    /// Of data server at the producer's gateway; `None`: it does not tell.
    pub producer_type: Option<DataServerType>,
    /// Of data server at the consumer's gateway; `None`: it does not tell.
    pub consumer_type: Option<DataServerType>,
}

/// Makes a path through both gateways. Every listener accepts when this returns.
///
/// # Errors
/// Either control server refuses, or does not answer in time; what was made is released at both.
pub async fn connect_path(
    producer: &UserClient,
    consumer: &UserClient,
    request: &ConnectRequest,
) -> Result<ConnectedPath, ClientError> {
    if producer.address() == consumer.address() {
        return Err(ClientError::OneServer(producer.address().clone()));
    }
    let uid = request.uid;
    let key = request.wishes.key.map_or_else(random_key, Ok)?;
    let (mut at_producer, mut at_consumer) = reserve(producer, consumer, request, Some(key)).await?;
    if is_stunnel_and_a_reference(at_producer.kind, at_consumer.kind) {
        // The reference's stunnel has its key of the session's name, whatever key goes with the request.
        both_released(producer, consumer, uid).await;
        (at_producer, at_consumer) = reserve(producer, consumer, request, None).await?;
    }
    let path = forward(producer, consumer, request, at_producer, at_consumer).await;
    if path.is_err() {
        both_released(producer, consumer, uid).await;
    }
    path
}

/// Ports at both, or at neither.
async fn reserve(
    producer: &UserClient,
    consumer: &UserClient,
    request: &ConnectRequest,
    key: Option<[u8; SECRET_LEN]>,
) -> Result<(Granted, Granted), ClientError> {
    let ConnectRequest { uid, num_conn, rate, .. } = *request;
    let half = |role| SessionRequest { uid, role, num_conn, rate, wishes: Wishes { key, ..request.wishes.clone() } };
    let (inbound, outbound) = (half(Role::Producer), half(Role::Consumer));
    let reserved = tokio::join!(
        producer.reserve(&inbound, Role::Producer, &request.targets),
        consumer.reserve(&outbound, Role::Consumer, &[]),
    );
    match reserved {
        (Ok(at_producer), Ok(at_consumer)) => Ok((at_producer, at_consumer)),
        // The half that failed released itself.
        (Ok(_), Err(error)) => {
            let _ = producer.release(uid).await;
            Err(error)
        }
        (Err(error), Ok(_)) => {
            let _ = consumer.release(uid).await;
            Err(error)
        }
        (Err(error), Err(_)) => Err(error),
    }
}

async fn both_released(producer: &UserClient, consumer: &UserClient, uid: Uuid) {
    // They may be gone already.
    let _ = tokio::join!(producer.release(uid), consumer.release(uid));
}

fn is_stunnel_and_a_reference(producer: Option<DataServerType>, consumer: Option<DataServerType>) -> bool {
    matches!((producer, consumer), (Some(DataServerType::Stunnel), None) | (None, Some(DataServerType::Stunnel)))
}

/// Whether the data servers of both gateways speak to each other. The reference does not tell of its type, which is no TLS or QUIC of
/// psbench's, and may be a stunnel.
fn agree(producer: Option<DataServerType>, consumer: Option<DataServerType>) -> bool {
    match (producer, consumer) {
        (Some(producer), Some(consumer)) => language(producer) == language(consumer),
        (Some(told), None) | (None, Some(told)) => !matches!(told, DataServerType::Tls | DataServerType::Quic),
        (None, None) => true,
    }
}

async fn forward(
    producer: &UserClient,
    consumer: &UserClient,
    request: &ConnectRequest,
    at_producer: Granted,
    at_consumer: Granted,
) -> Result<ConnectedPath, ClientError> {
    let uid = request.uid;
    if !agree(at_producer.kind, at_consumer.kind) {
        return Err(ClientError::Types {
            producer_address: producer.address().clone(),
            producer: at_producer.kind,
            consumer_address: consumer.address().clone(),
            consumer: at_consumer.kind,
        });
    }
    let producer_listeners = reachable(at_producer.listeners, producer);
    // One after the other: a consumer's gateway may connect at once, and the producer's has to be there.
    producer.update(uid, Role::Producer, &request.targets).await?;
    consumer.update(uid, Role::Consumer, &producer_listeners).await?;
    Ok(ConnectedPath {
        uid,
        listeners: reachable(at_consumer.listeners, consumer),
        producer_listeners,
        producer_type: at_producer.kind,
        consumer_type: at_consumer.kind,
    })
}

/// Gives a path back. Both halves, whether or not one fails.
///
/// # Errors
/// Either control server refuses, or does not answer in time.
pub async fn disconnect(producer: &UserClient, consumer: &UserClient, uid: Uuid) -> Result<(), ClientError> {
    let (inbound, outbound) = tokio::join!(producer.release(uid), consumer.release(uid));
    inbound.and(outbound)
}

/// What a data server says to the one at the other gateway; `None`: what the application says.
fn language(kind: DataServerType) -> Option<DataServerType> {
    match kind {
        DataServerType::Tls | DataServerType::Quic | DataServerType::Stunnel => Some(kind),
        _ => None,
    }
}

/// The reference's control server tells of the address at which it listens, which may be any: then it is where it was reached itself.
fn reachable(listeners: Vec<Target>, client: &UserClient) -> Vec<Target> {
    let reach = |listener: Target| match listener.host() {
        "0.0.0.0" | "::" => client.address().at(listener.port()),
        _ => listener,
    };
    listeners.into_iter().map(reach).collect()
}

fn random_key() -> Result<[u8; SECRET_LEN], ClientError> {
    let mut key = [0; SECRET_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| ClientError::Random)?;
    Ok(key)
}
