//! Who a control server is, and who its clients are: TLS.
//!
//! The usual client of SciStream trusts exactly the certificates of a file, and people fill it with what `openssl req -x509` makes: a
//! certificate of an authority that a server shows as its own. Certificates of a file are therefore *pinned*: one that is among them is
//! accepted as it is, whatever it says that it is for; others must have been signed by an authority among them, and bear the name that
//! was asked for.

#[macro_use]
mod signatures;

mod client;
mod error;
mod init;
mod pem;
mod server;
#[cfg(test)]
mod tests;
mod trust;

pub use self::client::ClientTls;
pub use self::error::TlsError;
pub use self::init::{NewCertificate, usual_names};
pub use self::pem::Pem;
pub use self::server::ServerTls;

/// The one protocol that is spoken over these connections: HTTP/2.
const PROTOCOL: &[u8] = b"h2";
