//! The swarm's parts and transports: TCP (TLS first, Noise second, yamux) and QUIC; control and package protocols,
//! identify, ping, connection limits and the block list.

use std::time::Duration;

use handover_core::id::SigningPublic;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, SwarmBuilder, identify, noise, ping, quic, tcp, yamux};

use crate::NetError;
use crate::config::{Limits, NetConfig};
use crate::door::Door;
use crate::frame::{CONTROL, ControlCodec};
use crate::identity::signing_public;
use crate::tls::Tls;

/// Streams on one connection: a stream may hold 256 KiB and more. Control requests in both directions, packages
/// and libp2p's own protocols fit well.
const MAX_STREAMS_PER_CONNECTION: usize = 128;
/// Handshakes under way at once, in each direction.
const MAX_PENDING_CONNECTIONS: u32 = 128;
/// Control streams beyond the counted requests: hellos.
const HELLO_STREAMS: usize = 8;
/// A QUIC peer that is silent for so long is gone. A killed TCP peer is told of at once by its system; a QUIC peer
/// that had dialled is not, and until then everything for it waits.
const QUIC_IDLE_MS: u32 = 4_000;
/// Several signs of life within [`QUIC_IDLE_MS`].
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);
const IDENTIFY_VERSION: &str = "/handover/1";

/// What the swarm runs. Whoever may deny a connection stands first: the others keep books of every connection that
/// they have seen and must not see one that is then denied.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) door: Door,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) control: request_response::Behaviour<ControlCodec>,
    pub(crate) packages: libp2p_stream::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

impl Behaviour {
    fn new(key: &Keypair, limits: &Limits) -> Self {
        let connections = ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING_CONNECTIONS))
            .with_max_pending_outgoing(Some(MAX_PENDING_CONNECTIONS))
            .with_max_established_per_peer(Some(limits.connections_per_peer))
            // Whoever fills the inbound ones does not keep this process from dialling.
            .with_max_established_incoming(Some(limits.connections - limits.connections / 8))
            .with_max_established(Some(limits.connections));
        let control = request_response::Config::default()
            .with_request_timeout(Duration::from_millis(limits.request_ms))
            // Counts both directions of one connection.
            .with_max_concurrent_streams(
                limits.requests_per_peer.saturating_mul(2).saturating_add(HELLO_STREAMS),
            );
        // Nobody learns from identify where else a process listens: routes come from the directory.
        let identify = identify::Config::new(IDENTIFY_VERSION.to_owned(), key.public())
            .with_agent_version("handover".to_owned())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        Self {
            blocked: allow_block_list::Behaviour::default(),
            // Three quarters are for those who are admitted.
            door: Door::new(usize::try_from(limits.connections / 4).unwrap_or(usize::MAX)),
            limits: connection_limits::Behaviour::new(connections),
            control: request_response::Behaviour::new([(CONTROL, ProtocolSupport::Full)], control),
            packages: libp2p_stream::Behaviour::new(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
        }
    }
}

/// Builds the swarm. Names in addresses (`/dns4/…`) are resolved with the system's resolver; a system without one
/// can still use numeric addresses.
pub(crate) fn build(config: &NetConfig) -> Result<(Swarm<Behaviour>, SigningPublic), NetError> {
    let mut seed = config.key_seed.clone();
    let key = Keypair::ed25519_from_bytes(&mut seed[..]).map_err(|_| NetError::Setup("the libp2p key"))?;
    let public = signing_public(&key.public().to_peer_id()).ok_or(NetError::Setup("the libp2p key"))?;

    let limits = &config.limits;
    let muxer = || {
        let mut muxer = yamux::Config::default();
        muxer.set_max_num_streams(MAX_STREAMS_PER_CONNECTION);
        muxer
    };
    let quic = |mut config: quic::Config| {
        config.max_idle_timeout = QUIC_IDLE_MS;
        config.keep_alive_interval = QUIC_KEEP_ALIVE;
        config
    };
    let transports = || {
        SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), (Tls::new, noise::Config::new), muxer)
            .map(|builder| builder.with_quic_config(quic))
            .map_err(|_| NetError::Setup("the TCP transport"))
    };
    let behaviour = |key: &Keypair| Behaviour::new(key, limits);
    let swarm_config = |config: libp2p::swarm::Config| {
        config.with_idle_connection_timeout(Duration::from_millis(limits.idle_ms))
    };
    let address_limit = Duration::from_millis(limits.dial_ms / 2);
    let failed = |_| NetError::Setup("the protocols");
    let swarm = match transports()?.with_dns() {
        Ok(builder) => builder
            .with_behaviour(behaviour)
            .map_err(failed)?
            .with_swarm_config(swarm_config)
            .with_connection_timeout(address_limit)
            .build(),
        Err(error) => {
            tracing::warn!(%error, "no system resolver: only numeric addresses can be dialled");
            transports()?
                .with_behaviour(behaviour)
                .map_err(failed)?
                .with_swarm_config(swarm_config)
                .with_connection_timeout(address_limit)
                .build()
        }
    };
    Ok((swarm, public))
}
