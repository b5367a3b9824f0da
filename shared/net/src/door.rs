//! Who may knock, and who may stay without being admitted: both by address, so that one stranger keeps nobody else out.
//! Who comes over a relay has no address; there it is the peer that the relay names.
//!
//! Invariants: no address has more than its share of handshakes under way, and the share shrinks as they fill up, so
//! that many addresses together leave room, too; those over UDP, where addresses can be made up, take none from those
//! over TCP, nor do those over relays, which could make up peers. Strangers' connections are bounded for each address and
//! in all, and a newcomer is let in by closing the oldest stranger's of those addresses that have the most. What is
//! admitted is not counted. It must not know why somebody is admitted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::mem::discriminant;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::identity::is_relayed;

/// Handshakes under way in all, over TCP, over UDP and over relays each.
const HANDSHAKES: usize = 256;
/// And from one address, at most.
const HANDSHAKES_PER_ADDRESS: usize = 16;
/// What is free divided by this is the most that one address may have.
const SHARES: usize = 8;
/// Connections of strangers from one address. One process needs one, until it has presented itself.
const STRANGERS_PER_ADDRESS: usize = 16;
/// The bits of an IPv6 address that tell networks apart: whoever has one address there has all of them.
const IPV6_NETWORK: u128 = !(u64::MAX as u128);

/// Another has as many handshakes under way as its address may have.
#[derive(Debug, thiserror::Error)]
#[error("the address has too many handshakes under way")]
struct TooManyHandshakes;

/// Where somebody comes from. Over UDP an address can be made up until the handshake is done, and a relay can make up
/// peers, so each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Tcp(Option<IpAddr>),
    Udp(Option<IpAddr>),
    Relayed(Option<PeerId>),
}

/// Bounds inbound connections before their peer is admitted.
#[derive(Debug)]
pub(crate) struct Door {
    strangers_in_all: usize,
    /// How many were denied, or closed for others, so far.
    turned_away: Arc<AtomicU64>,
    handshakes: HashMap<ConnectionId, Source>,
    /// Inbound connections in the order in which they came.
    connections: VecDeque<Knocked>,
    admitted: HashSet<PeerId>,
    closing: VecDeque<(PeerId, ConnectionId)>,
}

#[derive(Debug)]
struct Knocked {
    id: ConnectionId,
    peer: PeerId,
    source: Source,
}

impl Door {
    /// A door for so many strangers in all.
    pub(crate) fn new(strangers_in_all: usize, turned_away: Arc<AtomicU64>) -> Self {
        Self {
            strangers_in_all,
            turned_away,
            handshakes: HashMap::new(),
            connections: VecDeque::new(),
            admitted: HashSet::new(),
            closing: VecDeque::new(),
        }
    }

    /// Who is no stranger now.
    pub(crate) fn admit(&mut self, admitted: HashSet<PeerId>) {
        self.admitted = admitted;
    }

    fn knocks(&mut self, id: ConnectionId, source: Source) -> Result<(), ConnectionDenied> {
        let (mut in_all, mut own) = (0_usize, 0_usize);
        for other in self.handshakes.values().filter(|other| discriminant(*other) == discriminant(&source)) {
            in_all = in_all.saturating_add(1);
            own = own.saturating_add(usize::from(*other == source));
        }
        if own >= HANDSHAKES_PER_ADDRESS.min(HANDSHAKES.saturating_sub(in_all) / SHARES) {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(ConnectionDenied::new(TooManyHandshakes));
        }
        self.handshakes.insert(id, source);
        Ok(())
    }

    fn comes(&mut self, id: ConnectionId, peer: PeerId, source: Source) {
        self.connections.push_back(Knocked { id, peer, source });
        let mut counts: HashMap<Source, usize> = HashMap::new();
        let is_stranger = |knocked: &&Knocked| !self.admitted.contains(&knocked.peer);
        for knocked in self.connections.iter().filter(is_stranger) {
            let count = counts.entry(knocked.source).or_default();
            *count = count.saturating_add(1);
        }
        let most = counts.values().copied().max().unwrap_or_default();
        if most <= STRANGERS_PER_ADDRESS && counts.values().sum::<usize>() <= self.strangers_in_all {
            return;
        }
        let goes = self
            .connections
            .iter()
            .filter(is_stranger)
            .position(|knocked| counts.get(&knocked.source).is_some_and(|count| *count == most));
        let goes = goes.and_then(|at| self.connections.iter().filter(is_stranger).nth(at));
        if let Some(Knocked { id, peer, .. }) = goes {
            self.closing.push_back((*peer, *id));
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            let id = *id;
            self.connections.retain(|knocked| knocked.id != id);
        }
    }
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knocks(id, source(local, remote))
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handshakes.remove(&id);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.handshakes.remove(&connection_id);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: ConnectedPoint::Listener { local_addr, send_back_addr },
                ..
            }) => self.comes(connection_id, peer_id, source(local_addr, send_back_addr)),
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.connections.retain(|knocked| knocked.id != connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // Filled by events of the swarm only, which polls after each.
        self.closing.pop_front().map_or(Poll::Pending, |(peer_id, id)| {
            tracing::debug!("a stranger's connection gave way to another");
            Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) })
        })
    }
}

fn source(local: &Multiaddr, address: &Multiaddr) -> Source {
    if is_relayed(local) {
        return Source::Relayed(address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        }));
    }
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(address) => Some(IpAddr::V4(address)),
        Protocol::Ip6(address) => Some(IpAddr::V6(address)),
        _ => None,
    });
    let network = ip.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK)),
        v4 => v4,
    });
    let is_udp = address.iter().any(|part| matches!(part, Protocol::Udp(_)));
    if is_udp { Source::Udp(network) } else { Source::Tcp(network) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(remote: &str) -> Source {
        source(&Multiaddr::empty(), &remote.parse().unwrap())
    }

    fn from(last: u8) -> Source {
        of(&format!("/ip4/192.0.2.{last}/tcp/4001"))
    }

    fn over_relay(peer: PeerId) -> Source {
        let local = "/ip4/203.0.113.1/tcp/4001/p2p-circuit".parse().unwrap();
        source(&local, &Multiaddr::empty().with(Protocol::P2p(peer)))
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn one_address_has_its_share_of_handshakes() {
        let mut door = Door::new(64, Arc::default());
        for number in 0..HANDSHAKES_PER_ADDRESS {
            door.knocks(id(number), from(1)).unwrap();
        }
        assert!(door.knocks(id(100), from(1)).is_err());
        door.knocks(id(101), from(2)).unwrap();
        // Over UDP the address may be made up: it takes nothing from the same one over TCP.
        door.knocks(id(102), of("/ip4/192.0.2.1/udp/4001/quic-v1")).unwrap();
        door.handshakes.remove(&id(0));
        door.knocks(id(103), from(1)).unwrap();
        assert_eq!(door.turned_away.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn many_addresses_leave_room_for_one_more() {
        let mut door = Door::new(64, Arc::default());
        let tcp = |number: u8| from(number);
        let udp = |number: usize| {
            let [.., second, third] = number.to_be_bytes();
            of(&format!("/ip4/198.18.{second}.{third}/udp/4001/quic-v1"))
        };
        for (number, address) in (0..24).flat_map(|address| [address; 40]).enumerate() {
            let _ = door.knocks(id(number), tcp(address));
        }
        assert!(door.knocks(id(100_001), tcp(101)).is_ok(), "24 addresses take all handshakes");
        for number in 0..10_000 {
            let _ = door.knocks(id(200_000 + number), udp(number));
        }
        assert!(door.handshakes.len() <= 2 * HANDSHAKES);
        assert!(door.knocks(id(100_002), tcp(102)).is_ok(), "made-up addresses keep others out over TCP");
    }

    #[test]
    fn one_network_is_one_address() {
        assert_eq!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8::ffff:2/tcp/2"));
        assert_ne!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8:0:1::1/tcp/1"));
        assert_eq!(of("/ip6/::ffff:192.0.2.1/tcp/1"), from(1));
    }

    #[test]
    fn over_a_relay_everybody_has_a_share_of_their_own_and_takes_none_of_others() {
        let mut door = Door::new(64, Arc::default());
        let peer = PeerId::random();
        for number in 0..HANDSHAKES_PER_ADDRESS {
            door.knocks(id(number), over_relay(peer)).unwrap();
        }
        assert!(door.knocks(id(100), over_relay(peer)).is_err());
        door.knocks(id(101), over_relay(PeerId::random())).unwrap();
        // A relay that makes up peers keeps out nobody who comes otherwise.
        for number in 0..1_000 {
            let _ = door.knocks(id(1_000 + number), over_relay(PeerId::random()));
        }
        assert!(door.handshakes.len() <= HANDSHAKES);
        door.knocks(id(102), from(1)).unwrap();
        door.knocks(id(103), of("/ip4/192.0.2.1/udp/4001/quic-v1")).unwrap();
    }

    #[test]
    fn strangers_give_way_and_members_do_not() {
        let mut door = Door::new(2 * STRANGERS_PER_ADDRESS, Arc::default());
        let member = PeerId::random();
        door.comes(id(1000), member, from(1));
        door.admit(HashSet::from([member]));
        // A flood from the member's own address closes the flood's oldest.
        for number in 0..=STRANGERS_PER_ADDRESS {
            door.comes(id(number), PeerId::random(), from(1));
        }
        assert_eq!(door.closing.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [id(0)]);
        // One stranger each from many addresses: the address with the most gives way, newcomers never.
        door.closing.clear();
        for last in 0..20 {
            door.comes(id(usize::from(last) + 500), PeerId::random(), from(last + 100));
        }
        let closed: Vec<_> = door.closing.iter().map(|(_, id)| *id).collect();
        assert_eq!(closed, [id(1), id(2), id(3), id(4)]);
        assert!(door.connections.iter().any(|knocked| knocked.peer == member));
    }
}
