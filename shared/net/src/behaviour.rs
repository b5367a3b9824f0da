//! The swarm's parts and transports: TCP (TLS first, Noise second, yamux) and QUIC; control and package protocols,
//! identify, ping, connection limits and the block list; and, over connections with a relay, circuits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use handover_core::id::SigningPublic;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Swarm, SwarmBuilder, identify, noise, ping, relay, tcp};

use crate::NetError;
use crate::config::{Limits, NetConfig};
use crate::door::Door;
use crate::frame::{CONTROL, ControlCodec};
use crate::identity::signing_public;
use crate::incoming::Incoming;
use crate::muxer::Bounded;
use crate::quic::Paced;
use crate::tls::Tls;

/// Streams on one connection: a stream may hold 256 KiB and more. Control requests in both directions, packages
/// and libp2p's own protocols fit well.
const MAX_STREAMS_PER_CONNECTION: u32 = 128;
/// Of these, how many may be agreeing on a protocol: until then nobody reads what comes on them.
const MAX_NEGOTIATING: usize = 32;
/// Dials under way at once. Inbound handshakes are the door's.
const MAX_DIALS: u32 = 128;
/// Control streams beyond the counted requests: hellos.
const HELLO_STREAMS: usize = 8;
/// How often a peer is asked for a sign of life, and how long it may take: a process that hangs keeps its connections,
/// while another one with the same key may have its work by now. libp2p lets one miss pass, so it takes up to 30 s.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(10);
const IDENTIFY_VERSION: &str = "/handover/1";

/// What the swarm runs. Whoever may deny a connection stands first: the others keep books of every connection that
/// they have seen and must not see one that is then denied.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) door: Door,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) control: request_response::Behaviour<ControlCodec>,
    pub(crate) packages: Incoming,
    /// Only on a relay.
    pub(crate) asked: Toggle<Incoming>,
    pub(crate) streams: libp2p_stream::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) circuits: relay::client::Behaviour,
}

impl Behaviour {
    fn new(
        key: &Keypair,
        limits: &Limits,
        turned_away: Arc<AtomicU64>,
        (packages, asked): (Incoming, Option<Incoming>),
        circuits: relay::client::Behaviour,
    ) -> Self {
        let connections = ConnectionLimits::default()
            .with_max_pending_outgoing(Some(MAX_DIALS))
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
            door: Door::new(usize::try_from(limits.connections / 4).unwrap_or(usize::MAX), turned_away),
            limits: connection_limits::Behaviour::new(connections),
            control: request_response::Behaviour::new([(CONTROL, ProtocolSupport::Full)], control),
            packages,
            asked: asked.into(),
            streams: libp2p_stream::Behaviour::new(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_LIMIT),
            ),
            circuits,
        }
    }
}

/// Builds the swarm. Names in addresses (`/dns4/…`) are resolved with the system's resolver; a system without one
/// can still use numeric addresses.
pub(crate) fn build(
    config: &NetConfig,
    turned_away: &Arc<AtomicU64>,
    incoming: (Incoming, Option<Incoming>),
) -> Result<(Swarm<Behaviour>, SigningPublic), NetError> {
    let mut seed = config.key_seed.clone();
    let key = Keypair::ed25519_from_bytes(&mut seed[..]).map_err(|_| NetError::Setup("the libp2p key"))?;
    let public = signing_public(&key.public().to_peer_id()).ok_or(NetError::Setup("the libp2p key"))?;

    let limits = &config.limits;
    let muxer = || Bounded::new(MAX_STREAMS_PER_CONNECTION as usize);
    let transports = || {
        SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), (Tls::new, noise::Config::new), muxer)
            .map_err(|_| NetError::Setup("the TCP transport"))?
            .with_other_transport(|key| Paced::new(key, MAX_STREAMS_PER_CONNECTION))
            .map_err(|_| NetError::Setup("the QUIC transport"))
    };
    let behaviour =
        |key: &Keypair, circuits| Behaviour::new(key, limits, Arc::clone(turned_away), incoming, circuits);
    let swarm_config = |config: libp2p::swarm::Config| {
        config
            .with_idle_connection_timeout(Duration::from_millis(limits.idle_ms))
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
    };
    let address_limit = limits.address_limit();
    let failed = |_| NetError::Setup("the protocols");
    let swarm = match transports()?.with_dns() {
        Ok(builder) => builder
            .with_relay_client((Tls::new, noise::Config::new), muxer)
            .map_err(|_| NetError::Setup("circuits"))?
            .with_behaviour(behaviour)
            .map_err(failed)?
            .with_swarm_config(swarm_config)
            .with_connection_timeout(address_limit)
            .build(),
        Err(error) => {
            tracing::warn!(%error, "no system resolver: only numeric addresses can be dialled");
            transports()?
                .with_relay_client((Tls::new, noise::Config::new), muxer)
                .map_err(|_| NetError::Setup("circuits"))?
                .with_behaviour(behaviour)
                .map_err(failed)?
                .with_swarm_config(swarm_config)
                .with_connection_timeout(address_limit)
                .build()
        }
    };
    Ok((swarm, public))
}
