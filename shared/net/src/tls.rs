//! libp2p's TLS 1.3 handshake (libp2p specification, tls.md) with two things that its own configuration does not
//! offer: AES-256-GCM first, which a processor with AES instructions does several times as fast as ChaCha20, and
//! buffers on both sides of it, without which each 4 KiB of a package cost a call into the kernel.
//!
//! Invariants: TLS 1.3 only; exactly one certificate from each side, whose libp2p extension binds it to the peer's
//! key; what libp2p's own configuration speaks is understood. Certificates are made and checked by libp2p.

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use futures::{FutureExt as _, TryFutureExt as _};
use futures_rustls::{TlsAcceptor, TlsConnector};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::tls::certificate::{self, GenError};
use libp2p::tls::{TlsStream, UpgradeError, make_client_config, make_server_config};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};

const PROTOCOL: &str = "/tls/1.0.0";
/// The dialling side's order decides.
const CIPHER_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
];
/// Read from the socket in one go; rustls itself asks for 4 KiB at a time.
const READ_BYTES: usize = 128 * 1024;
/// Gathered before it is encrypted and sent: yamux gives a frame's 12 bytes of header and its body one by one.
const WRITE_BYTES: usize = 128 * 1024;

/// What an upgraded connection is.
type Secured<C> = BufWriter<TlsStream<BufReader<C>>>;

/// The upgrade of one process.
#[derive(Clone)]
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// For the process with this key.
    pub(crate) fn new(key: &Keypair) -> Result<Self, TlsError> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: CIPHER_SUITES.to_vec(),
            ..aws_lc_rs::default_provider()
        });
        // libp2p's own, for the certificates in them.
        let (theirs_server, theirs_client) = (make_server_config(key)?, make_client_config(key, None)?);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(PeerCertificate))
            .with_cert_resolver(theirs_server.cert_resolver);
        server.alpn_protocols = theirs_server.alpn_protocols;
        // Each connection proves its peer anew; one peer's ticket would be shown to all others besides.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PeerCertificate))
            .with_client_cert_resolver(theirs_client.client_auth_cert_resolver);
        client.alpn_protocols = theirs_client.alpn_protocols;
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Why there is no upgrade.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the certificate: {0}")]
    Certificate(#[from] GenError),
    #[error("the configuration: {0}")]
    Configuration(#[from] rustls::Error),
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = UpgradeError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        let accepted = TlsAcceptor::from(self.server).accept(BufReader::with_capacity(READ_BYTES, socket));
        accepted
            .map_err(UpgradeError::ServerUpgrade)
            .and_then(|stream| async { secured(TlsStream::Server(stream)) })
            .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = UpgradeError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        // No name is sent: an address has none (RFC 6066, section 3).
        let nameless = ServerName::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let connected =
            TlsConnector::from(self.client).connect(nameless, BufReader::with_capacity(READ_BYTES, socket));
        connected
            .map_err(UpgradeError::ClientUpgrade)
            .and_then(|stream| async { secured(TlsStream::Client(stream)) })
            .boxed()
    }
}

/// Who the other side has proven to be, and the stream with them.
fn secured<C>(stream: TlsStream<BufReader<C>>) -> Result<(PeerId, Secured<C>), UpgradeError>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let peer = proven_peer(stream.get_ref().1)?;
    Ok((peer, BufWriter::with_capacity(WRITE_BYTES, stream)))
}

fn proven_peer(state: &CommonState) -> Result<PeerId, UpgradeError> {
    let presented = state.peer_certificates().and_then(<[_]>::first);
    // An empty one is none: it is refused as any that cannot be read.
    let presented = presented.cloned().unwrap_or_else(|| CertificateDer::from_slice(&[]));
    Ok(certificate::parse(&presented)?.peer_id())
}

/// Checks that a certificate is bound to a libp2p key, and that who presents it holds the certificate's key. Whose key
/// that is, the swarm compares with whom it dialled, and admission with the directory.
#[derive(Debug)]
struct PeerCertificate;

impl PeerCertificate {
    fn check(presented: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !more.is_empty() {
            return Err(rustls::Error::General("a libp2p peer presents exactly one certificate".to_owned()));
        }
        certificate::parse(presented)?;
        Ok(())
    }

    fn check_signature(
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(presented)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// The kinds of keys that libp2p's certificates may have, the preferred first.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}

/// No such version is configured.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

impl ServerCertVerifier for PeerCertificate {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::check(presented, more)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::check_signature(message, presented, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for PeerCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::check(presented, more)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::check_signature(message, presented, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

#[cfg(test)]
mod tests;
