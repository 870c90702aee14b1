//! Who the two gateways of a session are to each other: keys of the session's own, for TLS 1.3 and for QUIC.
//!
//! rustls has no pre-shared keys of its user's, so that either gateway has an Ed25519 key pair that both derive from the session's
//! [`Secret`]. They are shown as raw public keys (RFC 7250): there is no certificate to parse, to expire, or to belong to an authority,
//! and a peer that has one instead, however valid, is refused. Each side accepts exactly the other's key, and the handshake proves that
//! the peer holds it (RFC 8446 §4.4.3): whoever does not know the secret gets past neither.
//!
//! There is one cipher suite, AES-128-GCM: both ends are ours, so that nothing is to be negotiated. Sessions are never resumed, and no
//! data go before the handshake is complete: each connection proves its keys anew.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use crate::forward::Secret;

/// Of the gateway that accepts connections of the other one, the producer's.
const ACCEPTS: &str = "tls server";
/// Of the gateway that connects, the consumer's.
const CONNECTS: &str = "tls client";

/// That of the gateway that accepts. `protocol` is what the connections carry (ALPN, RFC 7301): a peer that speaks another is refused.
///
/// # Errors
/// None that is known: rustls would have to refuse an Ed25519 key.
pub(crate) fn server_config(secret: &Secret, protocol: &[u8]) -> Result<ServerConfig, Error> {
    let peer = Arc::new(Pinned::new(secret, CONNECTS)?);
    let own = AlwaysResolvesServerRawPublicKeys::new(Arc::new(key(secret, ACCEPTS)?));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(peer)
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![protocol.into()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// That of the gateway that connects; see [`server_config`]. The name that it is given for its peer plays no part.
///
/// # Errors
/// As [`server_config`].
pub(crate) fn client_config(secret: &Secret, protocol: &[u8]) -> Result<ClientConfig, Error> {
    let peer = Arc::new(Pinned::new(secret, ACCEPTS)?);
    let own = AlwaysResolvesClientRawPublicKeys::new(Arc::new(key(secret, CONNECTS)?));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(peer)
        .with_client_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![protocol.into()];
    config.resumption = Resumption::disabled();
    // The other gateway's address need not be told to whoever listens on the way.
    config.enable_sni = false;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![TLS13_AES_128_GCM_SHA256], ..ring::default_provider() })
}

/// A gateway's key pair, with its public key in place of a certificate.
fn key(secret: &Secret, whose: &str) -> Result<CertifiedKey, Error> {
    /// What precedes the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 §7).
    const PKCS8: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let seed: [u8; 32] = secret.derive(whose);
    let pair = any_eddsa_type(&PrivatePkcs8KeyDer::from([&PKCS8[..], &seed].concat()))?;
    let public = pair.public_key().ok_or_else(|| Error::General("a key pair without a public key".into()))?.to_vec();
    Ok(CertifiedKey::new(vec![public.into()], pair))
}

/// What verifiers of servers and of clients have in common, in traits of their own each: that the peer has the key that is expected.
macro_rules! signatures_by_the_key {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            _: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            // By the key that is expected, not by whatever was shown.
            verify_tls13_signature_with_raw_key(message, &self.public, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

/// Accepts the key of one gateway and nobody else's.
#[derive(Debug)]
struct Pinned {
    public: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(secret: &Secret, whose: &str) -> Result<Self, Error> {
        let public = key(secret, whose)?.end_entity_cert()?.to_vec().into();
        Ok(Self { public, algorithms: ring::default_provider().signature_verification_algorithms })
    }

    fn check(&self, shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        if more.is_empty() && shown.as_ref() == self.public.as_ref() {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown, more).map(|()| ServerCertVerified::assertion())
    }

    signatures_by_the_key!();
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown, more).map(|()| ClientCertVerified::assertion())
    }

    signatures_by_the_key!();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    /// Hands what either side has to say to the other one, until both are silent.
    fn shake(client: ClientConfig, server: ServerConfig) -> Result<(ClientConnection, ServerConnection), Error> {
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.wants_write() || server.wants_write() {
            let mut said = Vec::new();
            client.write_tls(&mut said).unwrap();
            if server.read_tls(&mut &said[..]).unwrap() > 0 {
                server.process_new_packets()?;
            }
            let mut said = Vec::new();
            server.write_tls(&mut said).unwrap();
            if client.read_tls(&mut &said[..]).unwrap() > 0 {
                client.process_new_packets()?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok((client, server))
    }

    fn secret(byte: u8) -> Secret {
        Secret::random([byte; 32])
    }

    #[test]
    fn gateways_of_one_session_know_each_other() {
        let (client, server) = (client_config(&secret(1), b"a").unwrap(), server_config(&secret(1), b"a").unwrap());
        let (mut client, mut server) = shake(client, server).unwrap();
        assert_eq!(client.negotiated_cipher_suite(), Some(TLS13_AES_128_GCM_SHA256));
        client.writer().write_all(b"hello").unwrap();
        let mut said = Vec::new();
        client.write_tls(&mut said).unwrap();
        assert!(!said.windows(5).any(|part| part == b"hello"));
        server.read_tls(&mut &said[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut heard = [0; 5];
        server.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn gateways_of_another_session_are_refused_by_either_side() {
        let (client, server) = (client_config(&secret(1), b"a").unwrap(), server_config(&secret(2), b"a").unwrap());
        assert!(matches!(shake(client, server), Err(Error::InvalidCertificate(_))));
        // One that is not so particular about whom it connects to is refused by the other.
        let mut careless = client_config(&secret(1), b"a").unwrap();
        careless.dangerous().set_certificate_verifier(Arc::new(Pinned::new(&secret(2), ACCEPTS).unwrap()));
        assert!(matches!(shake(careless, server_config(&secret(2), b"a").unwrap()), Err(Error::InvalidCertificate(_))));
    }

    #[test]
    fn a_key_of_one_side_is_not_one_of_the_other() {
        let mut mirrored = client_config(&secret(1), b"a").unwrap();
        let own = AlwaysResolvesClientRawPublicKeys::new(Arc::new(key(&secret(1), ACCEPTS).unwrap()));
        mirrored.client_auth_cert_resolver = Arc::new(own);
        assert!(matches!(shake(mirrored, server_config(&secret(1), b"a").unwrap()), Err(Error::InvalidCertificate(_))));
    }

    #[test]
    fn to_show_a_public_key_is_not_to_have_it() {
        let public = key(&secret(1), CONNECTS).unwrap().cert;
        let thief = CertifiedKey::new(public, key(&secret(2), CONNECTS).unwrap().key);
        let mut config = client_config(&secret(1), b"a").unwrap();
        config.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(thief)));
        assert!(shake(config, server_config(&secret(1), b"a").unwrap()).is_err());
    }

    #[test]
    fn certificates_and_those_who_show_nothing_are_refused() {
        let roots = rustls::RootCertStore::empty();
        let stranger = || {
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots.clone())
        };
        shake(stranger().with_no_client_auth(), server_config(&secret(1), b"a").unwrap()).unwrap_err();
        let made = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
        let with_certificate =
            stranger().with_client_auth_cert(vec![made.cert.der().clone()], made.signing_key.into()).unwrap();
        shake(with_certificate, server_config(&secret(1), b"a").unwrap()).unwrap_err();
        // Nor does a client that expects the right server get in without its own key.
        let mut anonymous = client_config(&secret(1), b"a").unwrap();
        anonymous.client_auth_cert_resolver = Arc::new(Nobody);
        shake(anonymous, server_config(&secret(1), b"a").unwrap()).unwrap_err();
    }

    #[test]
    fn protocols_are_not_mixed_up() {
        let (client, server) = (client_config(&secret(1), b"a").unwrap(), server_config(&secret(1), b"b").unwrap());
        assert!(matches!(shake(client, server), Err(Error::NoApplicationProtocol)));
    }

    #[derive(Debug)]
    struct Nobody;

    impl rustls::client::ResolvesClientCert for Nobody {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn only_raw_public_keys(&self) -> bool {
            true
        }

        fn has_certs(&self) -> bool {
            false
        }
    }
}
