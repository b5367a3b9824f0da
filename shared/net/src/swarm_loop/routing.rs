//! Routes inside the loop: which peers are dialled for a route, and who is told of its outcome.

use handover_core::Party;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::{Loop, fail};
use crate::NetError;
use crate::client::{Caller, Resolved};
use crate::identity::{Candidate, relay_address, relay_of};
use crate::peers::Standing;
use crate::routes::{Dial, Dialling, Waiting, outcome};

impl Loop {
    pub(super) fn on_dial_failed(&mut self, id: PeerId, connection: ConnectionId, error: &DialError) {
        tracing::debug!(%error, "dial failed");
        if self.dials.by_peer.get(&id).is_none_or(|dial| !dial.makes(connection)) {
            return;
        }
        let wrong_key = matches!(error, DialError::WrongPeerId { .. });
        for route in self.waiting.iter_mut().filter(|route| route.peers.contains(&id)) {
            route.wrong_key |= wrong_key;
        }
        self.unsettled = true;
        if let Some(dial) = self.dials.by_peer.remove(&id) {
            self.dial(id, dial.then);
        }
        if !self.dials.by_peer.contains_key(&id) {
            self.on_relay_dialled(id);
        }
    }

    /// Whoever waits for this relay goes on: through it, if it is connected now.
    pub(super) fn on_relay_dialled(&mut self, relay: PeerId) {
        let is_waiting = |dial: &Dial| matches!(&dial.now, Dialling::Relay(other, _) if *other == relay);
        let waiting: Vec<_> = self.dials.by_peer.extract_if(|_, dial| is_waiting(dial)).collect();
        let is_there = self.peers.get(&relay).is_some();
        for (peer, dial) in waiting {
            let through = match dial.now {
                Dialling::Relay(_, addresses) if is_there => Some(addresses),
                Dialling::Relay(..) | Dialling::Peer(_) => None,
            };
            self.dial(peer, through.into_iter().chain(dial.then).collect());
        }
    }

    /// Starts to dial the first of the stages, if there is one. A failure at once leaves no dial behind.
    pub(super) fn dial(&mut self, peer: PeerId, stages: Vec<Vec<Multiaddr>>) {
        let mut stages = stages.into_iter();
        let Some(addresses) = stages.next() else { return };
        if self.peers.get(&peer).is_some() {
            return;
        }
        let then: Vec<_> = stages.collect();
        if let Some(relay) = addresses.first().and_then(relay_of)
            && !self.peers.is_direct(&relay)
        {
            // Nobody is reached through themselves, nor through one circuit inside another.
            if relay == peer || self.peers.get(&relay).is_some() {
                return self.dial(peer, then);
            }
            // libp2p would dial it, too, and give up at once if it is being dialled already.
            if !self.dials.by_peer.contains_key(&relay) {
                self.dial(relay, vec![addresses.iter().filter_map(relay_address).collect()]);
            }
            // One that waits for a relay itself is not waited for: two could wait for each other.
            if self.dials.by_peer.get(&relay).is_some_and(Dial::is_under_way) {
                let now = Dialling::Relay(relay, addresses);
                self.dials.by_peer.insert(peer, Dial { now, then });
                return;
            }
            return self.dial(peer, then);
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
            Ok(()) => {
                drop(self.dials.by_peer.insert(peer, Dial { now: Dialling::Peer(connection), then }));
            }
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
            for mut candidate in candidates {
                let peer = candidate.peer;
                if peer == own || self.dials.by_peer.contains_key(&peer) {
                    continue;
                }
                // A relay does not dial through itself.
                candidate.relayed.retain(|address| !address.iter().any(|part| part == Protocol::P2p(own)));
                let mut stages = candidate.stages();
                // Through a relay that is there rather than one that would have to be dialled.
                let is_away = |stage: &Vec<Multiaddr>| {
                    let relay = stage.first().and_then(relay_of);
                    relay.is_some_and(|relay| !self.peers.is_direct(&relay))
                };
                stages.sort_by_key(is_away);
                self.dial(peer, stages);
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
