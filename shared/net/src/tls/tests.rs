use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::tls::Config as Stock;
use rustls::CipherSuite;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{DuplexStream, duplex};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;

type Socket = Compat<DuplexStream>;

fn sockets() -> (Socket, Socket) {
    let (one, other) = duplex(10_000);
    (one.compat(), other.compat())
}

/// A handshake, and what both sides make of it.
async fn handshake<I, O>(
    accepting: I,
    dialling: O,
) -> (Result<I::Output, I::Error>, Result<O::Output, O::Error>)
where
    I: InboundConnectionUpgrade<Socket, Info = &'static str>,
    O: OutboundConnectionUpgrade<Socket, Info = &'static str>,
{
    let (server, client) = sockets();
    tokio::join!(accepting.upgrade_inbound(server, PROTOCOL), dialling.upgrade_outbound(client, PROTOCOL))
}

/// Both know each other, and what one writes and flushes the other reads.
async fn understand<I, O, A, B>(accepting: (I, PeerId), dialling: (O, PeerId))
where
    I: InboundConnectionUpgrade<Socket, Output = (PeerId, A), Error = UpgradeError, Info = &'static str>,
    O: OutboundConnectionUpgrade<Socket, Output = (PeerId, B), Error = UpgradeError, Info = &'static str>,
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (accepted, dialled) = handshake(accepting.0, dialling.0).await;
    let ((client, mut server_side), (server, mut client_side)) = (accepted.unwrap(), dialled.unwrap());
    assert_eq!((client, server), (dialling.1, accepting.1));
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| at as u8).collect();
    let (mut there, mut back) = (vec![0; sent.len()], vec![0; sent.len()]);
    let echo = async {
        server_side.read_exact(&mut there).await.unwrap();
        server_side.write_all(&there).await.unwrap();
        server_side.close().await.unwrap();
    };
    let ask = async {
        client_side.write_all(&sent).await.unwrap();
        client_side.flush().await.unwrap();
        client_side.read_exact(&mut back).await.unwrap();
        assert_eq!(client_side.read(&mut [0]).await.unwrap(), 0, "closed, not cut");
    };
    tokio::join!(echo, ask);
    assert!(back == sent);
}

#[tokio::test]
async fn our_own_and_libp2ps_understand_each_other() {
    let (one, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let ids = (one.public().to_peer_id(), other.public().to_peer_id());
    understand((Tls::new(&one).unwrap(), ids.0), (Tls::new(&other).unwrap(), ids.1)).await;
    understand((Tls::new(&one).unwrap(), ids.0), (Stock::new(&other).unwrap(), ids.1)).await;
    understand((Stock::new(&one).unwrap(), ids.0), (Tls::new(&other).unwrap(), ids.1)).await;
}

#[tokio::test]
async fn aes_256_comes_first() {
    let tls = || Tls::new(&Keypair::generate_ed25519()).unwrap();
    let (accepted, dialled) = handshake(tls(), tls()).await;
    for stream in [accepted.unwrap().1, dialled.unwrap().1] {
        let suite = stream.get_ref().get_ref().1.negotiated_cipher_suite().unwrap();
        assert_eq!(suite.suite(), CipherSuite::TLS13_AES_256_GCM_SHA384);
    }
}

/// Whether a dialling side that presents this is accepted.
async fn accepts(client: impl FnOnce(&mut ClientConfig)) -> bool {
    let tls = || Tls::new(&Keypair::generate_ed25519()).unwrap();
    let mut dialling = tls();
    client(Arc::make_mut(&mut dialling.client));
    handshake(tls(), dialling).await.0.is_ok()
}

fn presenting(
    certificates: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> impl FnOnce(&mut ClientConfig) {
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key.clone_key()).unwrap();
    let presented = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
    |client| client.client_auth_cert_resolver = Arc::new(presented)
}

#[tokio::test]
async fn one_certificate_that_is_bound_to_a_peers_key_is_wanted() {
    let (certificate, key) = certificate::generate(&Keypair::generate_ed25519()).unwrap();
    assert!(accepts(presenting(vec![certificate.clone()], &key)).await);
    assert!(!accepts(presenting(vec![certificate.clone(), certificate.clone()], &key)).await);
    assert!(!accepts(presenting(Vec::new(), &key)).await);
    // Somebody else's, without its key.
    let (_, another) = certificate::generate(&Keypair::generate_ed25519()).unwrap();
    assert!(!accepts(presenting(vec![certificate], &another)).await);
    // Any certificate of today, which is bound to no peer's key.
    let key = rcgen::KeyPair::generate().unwrap();
    let unbound = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    assert!(!accepts(presenting(vec![unbound.into()], &key)).await);
}
