//! Connecting to a control server.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{ClientError, ClientOptions};
use crate::forward::Target;

/// What a connection is, TLS or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The protocol that gRPC has in TLS; the reference's server insists on it.
const HTTP2: &[u8] = b"h2";

/// Connects; connects again by itself where the connection is lost.
pub(super) async fn connect(address: &Target, options: &ClientOptions) -> Result<Channel, ClientError> {
    let tls = match &options.tls {
        Some(config) => {
            let name = ServerName::try_from(address.host().to_owned())
                .map_err(|_| ClientError::Address(address.to_string()))?;
            let mut config = Arc::clone(config);
            if !config.alpn_protocols.iter().any(|protocol| protocol == HTTP2) {
                Arc::make_mut(&mut config).alpn_protocols = vec![HTTP2.into()];
            }
            Some((TlsConnector::from(config), name))
        }
        None => None,
    };
    let uri = |scheme: &str| {
        format!("{scheme}://{address}").parse::<Uri>().map_err(|_| ClientError::Address(address.to_string()))
    };
    let wrong = |source| ClientError::Connect { address: address.clone(), source };
    let endpoint = Endpoint::new(uri("http")?)
        .map_err(wrong)?
        .origin(uri(if tls.is_some() { "https" } else { "http" })?)
        .connect_timeout(options.time_limit);
    let to = address.clone();
    let connector = service_fn(move |_: Uri| {
        let (to, tls) = (to.clone(), tls.clone());
        async move {
            let socket = TcpStream::connect((to.host(), to.port())).await?;
            socket.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match tls {
                Some((connector, name)) => Box::new(connector.connect(name, socket).await?),
                None => Box::new(socket),
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(wrong)
}
