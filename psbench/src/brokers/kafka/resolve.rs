//! Connections of librdkafka's that go through paths.
//!
//! A cluster tells its clients where its brokers are, so a listener that leads to one of them is of no use by itself: librdkafka would
//! connect past it, or to where nothing is reached. It asks who is meant by a broker's name right before it connects, and takes whatever
//! address and port it is told. Here that is a path's, made when a broker is first met. The name itself stays, by which TLS and SASL know
//! the broker.
#![expect(unsafe_code, reason = "librdkafka takes a resolver from C alone, and rdkafka does not pass it on")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use libc::addrinfo;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::bindings::{rd_kafka_brokers_add, rd_kafka_conf};
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaConf;

use super::super::Route;
use super::context::Context;

const SERVERS: &str = "bootstrap.servers";

type Resolver =
    unsafe extern "C" fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo, *mut c_void) -> c_int;

unsafe extern "C" {
    fn rd_kafka_conf_set_resolve_cb(conf: *mut RDKafkaConf, resolver: Resolver);
}

/// A client of either kind.
pub(super) trait HasClient {
    fn client_of(&self) -> &Client<Context>;
}

impl HasClient for BaseProducer<Context> {
    fn client_of(&self) -> &Client<Context> {
        self.client()
    }
}

impl HasClient for BaseConsumer<Context> {
    fn client_of(&self) -> &Client<Context> {
        self.client()
    }
}

impl HasClient for AdminClient<Context> {
    fn client_of(&self) -> &Client<Context> {
        self.inner()
    }
}

/// Makes a client whose connections take this route.
pub(super) fn create<T>(mut config: ClientConfig, route: &Route) -> KafkaResult<T>
where
    T: FromClientConfigAndContext<Context> + HasClient,
{
    let context = Context::on(route);
    if route.is_direct() {
        return config.create_with_context(context);
    }
    // It begins to connect as soon as it knows of servers, and is to have its resolver first.
    let servers = config.get(SERVERS).unwrap_or_default().to_owned();
    let client: T = config.remove(SERVERS).create_with_context(context)?;
    begin(client.client_of(), &servers)?;
    Ok(client)
}

/// Gives a client that knows of no server yet its resolver, and then the servers.
fn begin(client: &Client<Context>, servers: &str) -> KafkaResult<()> {
    let refused = || KafkaError::ClientCreation(format!("no servers: {servers:?}"));
    let list = CString::new(servers).map_err(|_| refused())?;
    let native = client.native_ptr();
    // SAFETY: the pointer is that of a client that lives through the call. Its configuration is a part of it, const to C's callers only
    // because most of it is in use; the resolver is read by threads that connect, and the first of these is started by
    // `rd_kafka_brokers_add`, after this write. `resolve` has the signature that librdkafka.h asks for.
    let added = unsafe {
        rd_kafka_conf_set_resolve_cb(rd_kafka_conf(native).cast_mut(), resolve);
        rd_kafka_brokers_add(native, list.as_ptr())
    };
    if added > 0 { Ok(()) } else { Err(refused()) }
}

/// Where a path to this broker begins, as `getaddrinfo` takes it.
fn led(context: &Context, host: &CStr, port: &CStr) -> Option<(CString, CString)> {
    let (host, port) = (host.to_str().ok()?, port.to_str().ok()?.parse().ok()?);
    match context.route.to(host, port) {
        Ok((host, port)) => Some((CString::new(host).ok()?, CString::new(port.to_string()).ok()?)),
        Err(error) => {
            // It will ask again, for as long as somebody wants something of this broker.
            tracing::info!("no path to Kafka's broker at {host}:{port}: {error}");
            None
        }
    }
}

/// Called by librdkafka in place of `getaddrinfo`, and with null pointers but for `result` and `opaque` in place of `freeaddrinfo`.
unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
    opaque: *mut c_void,
) -> c_int {
    if node.is_null() || service.is_null() {
        // SAFETY: librdkafka gives back, once, what `getaddrinfo` put there.
        unsafe { libc::freeaddrinfo(*result) };
        return 0;
    }
    // SAFETY: rdkafka makes the client's `Context` its `opaque` and keeps it until the client and its threads are gone. `begin` is the
    // only one to set this resolver, and takes no client with another type of context.
    let context = unsafe { &*opaque.cast::<Context>() };
    // SAFETY: both are strings of C's, which outlast the call.
    let (host, port) = unsafe { (CStr::from_ptr(node), CStr::from_ptr(service)) };
    let Some((host, port)) = led(context, host, port) else { return libc::EAI_FAIL };
    // SAFETY: the strings outlast the call; `hints` and `result` are librdkafka's own, as it would give them to `getaddrinfo`.
    unsafe { libc::getaddrinfo(host.as_ptr(), port.as_ptr(), hints, result) }
}
