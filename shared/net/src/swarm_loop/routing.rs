//! Routes inside the loop: which peers are dialled for a route, and who is told of its outcome.

use handover_core::Party;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::{Loop, fail};
use crate::NetError;
use crate::client::{Caller, Resolved};
use crate::identity::Candidate;
use crate::peers::Standing;
use crate::routes::{Dial, Waiting, outcome};

impl Loop {
    pub(super) fn on_dial_failed(&mut self, id: PeerId, connection: ConnectionId, error: &DialError) {
        tracing::debug!(%error, "dial failed");
        if self.dials.by_peer.get(&id).is_none_or(|dial| dial.connection != connection) {
            return;
        }
        let wrong_key = matches!(error, DialError::WrongPeerId { .. });
        for route in self.waiting.iter_mut().filter(|route| route.peers.contains(&id)) {
            route.wrong_key |= wrong_key;
        }
        self.unsettled = true;
        if let Some(dial) = self.dials.by_peer.remove(&id) {
            self.dial(id, dial.then, Vec::new());
        }
    }

    /// Starts to dial, if there is anything to dial. A failure at once leaves no dial behind.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, then: Vec<Multiaddr>) {
        if addresses.is_empty() || self.peers.get(&peer).is_some() {
            return;
        }
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            // From the port that is listened on, a dial to where a connection has just ended would be refused by the
            // system for a minute: the pair of addresses is not free yet.
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.by_peer.insert(peer, Dial { connection, then })),
            Err(error) => tracing::debug!(%error, "dial refused"),
        }
    }

    pub(super) fn resolve(&mut self, party: Party, candidates: Vec<Candidate>, caller: Caller<Resolved>) {
        if self.expelled.contains_key(&party) {
            return fail(caller, NetError::Expelled);
        }
        if self.waiting.len() >= self.limits.routes_waiting {
            self.waiting.retain(|route| !route.caller.is_closed());
            if self.waiting.len() >= self.limits.routes_waiting {
                return fail(caller, NetError::Busy);
            }
        }
        let peers: Vec<PeerId> = candidates.iter().map(|candidate| candidate.peer).collect();
        // The directory, here or there, may have changed since a hello was refused.
        for id in &peers {
            if matches!(self.peers.get(id).map(|peer| &peer.standing), Some(Standing::Refused(_))) {
                self.judge(*id);
                self.publish_admitted();
            }
        }
        let live: Vec<PeerId> = self.peers.of_party(&party).map(|(id, _)| *id).collect();
        for id in &live {
            self.present_again_if_refused(*id);
        }
        if live.is_empty() {
            let own = *self.swarm.local_peer_id();
            for Candidate { peer, mut tcp, mut quic } in candidates {
                if peer == own || self.dials.by_peer.contains_key(&peer) {
                    continue;
                }
                if tcp.is_empty() {
                    std::mem::swap(&mut tcp, &mut quic);
                }
                self.dial(peer, tcp, quic);
            }
        }
        self.waiting.push(Waiting { party, peers, wrong_key: false, caller });
        self.unsettled = true;
    }

    /// Answers the routes whose outcome is known.
    pub(super) fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for route in waiting {
            match outcome(&route, &self.peers, &self.dials) {
                // A caller who gave up does not miss the answer.
                Some(outcome) => drop(route.caller.send(outcome)),
                None => self.waiting.push(route),
            }
        }
    }
}
