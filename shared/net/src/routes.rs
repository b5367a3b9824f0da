//! Routes that wait to be resolved. What becomes of one follows from the peers' state alone, so it is asked again
//! whenever that state has changed.

use std::collections::HashMap;

use handover_core::Party;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::NetError;
use crate::client::{Caller, Resolved};
use crate::peers::{Peers, Standing};

/// Dials under way, by peer.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    pub(crate) by_peer: HashMap<PeerId, Dial>,
}

/// One dial under way.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) now: Dialling,
    /// What is tried when this fails, one after another.
    pub(crate) then: Vec<Vec<Multiaddr>>,
}

/// What a dial is doing.
#[derive(Debug)]
pub(crate) enum Dialling {
    /// It dials the peer.
    Peer(ConnectionId),
    /// It waits for a relay to be connected, through which these addresses lead.
    Relay(PeerId, Vec<Multiaddr>),
}

impl Dial {
    /// Whether the peer itself is being dialled.
    pub(crate) const fn is_under_way(&self) -> bool {
        matches!(self.now, Dialling::Peer(_))
    }

    /// Whether this is the connection that it makes.
    pub(crate) fn makes(&self, connection: ConnectionId) -> bool {
        matches!(self.now, Dialling::Peer(own) if own == connection)
    }
}

/// A caller who waits for a route.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) party: Party,
    pub(crate) peers: Vec<PeerId>,
    /// Another key than the addressed one answered at one of the addresses.
    pub(crate) wrong_key: bool,
    pub(crate) caller: Caller<Resolved>,
}

/// The route's outcome, or none while it is open.
///
/// A peer of the party that has answered this process's hello wins, wherever it came from. The route stays open
/// while a hello is under way or a candidate is being dialled. Otherwise it has failed, with the most telling of
/// the candidates' faults.
pub(crate) fn outcome(waiting: &Waiting, peers: &Peers, dials: &Dials) -> Option<Result<Resolved, NetError>> {
    let mut open = false;
    for (id, peer) in peers.of_party(&waiting.party) {
        match peer.presented {
            Some(presented) => return Some(Ok(Resolved { peer: *id, presented })),
            None => open = true,
        }
    }
    let mut fault = if waiting.wrong_key { NetError::WrongPeer } else { NetError::Unreachable };
    for id in &waiting.peers {
        match peers.get(id).map(|peer| &peer.standing) {
            Some(Standing::Unknown) => open = true,
            Some(Standing::Admitted(party)) if *party == waiting.party => {}
            Some(Standing::Admitted(_)) => fault = NetError::WrongPeer,
            Some(Standing::Refused(code)) => fault = NetError::NotAdmitted(*code),
            None => open |= dials.by_peer.contains_key(id),
        }
    }
    if open { None } else { Some(Err(fault)) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use handover_core::Code;
    use handover_core::id::SigningPublic;
    use tokio::sync::oneshot;

    use super::*;
    use crate::handle::Presented;
    use crate::peers::Peer;

    fn waiting(peers: &[PeerId]) -> Waiting {
        Waiting { party: Party::Index, peers: peers.to_vec(), wrong_key: false, caller: oneshot::channel().0 }
    }

    #[test]
    fn the_outcome_follows_the_peers_state() {
        let (id, other) = (PeerId::random(), PeerId::random());
        let (mut peers, mut dials) = (Peers::default(), Dials::default());
        let route = waiting(&[id]);

        assert!(matches!(outcome(&route, &peers, &dials), Some(Err(NetError::Unreachable))));
        let dial = Dial { now: Dialling::Peer(ConnectionId::new_unchecked(1)), then: vec![] };
        dials.by_peer.insert(id, dial);
        assert!(outcome(&route, &peers, &dials).is_none(), "dialling");

        dials.by_peer.clear();
        peers.insert(id, Peer::new(SigningPublic::from_bytes([0; 32]), Instant::now()));
        assert!(outcome(&route, &peers, &dials).is_none(), "no hello yet");

        peers.set_standing(&id, Standing::Refused(Code::HospitalPending));
        let refused = outcome(&route, &peers, &dials);
        assert!(matches!(refused, Some(Err(NetError::NotAdmitted(Code::HospitalPending)))));

        peers.set_standing(&id, Standing::Admitted("lakeside".parse().unwrap()));
        assert!(matches!(outcome(&route, &peers, &dials), Some(Err(NetError::WrongPeer))));

        peers.set_standing(&id, Standing::Admitted(Party::Index));
        assert!(outcome(&route, &peers, &dials).is_none(), "own hello not answered");

        let mut inbound = Peer::new(SigningPublic::from_bytes([1; 32]), Instant::now());
        inbound.presented = Some(Presented::Accepted);
        peers.insert(other, inbound);
        peers.set_standing(&other, Standing::Admitted(Party::Index));
        assert!(matches!(outcome(&route, &peers, &dials), Some(Ok(found)) if found.peer == other));
    }
}
