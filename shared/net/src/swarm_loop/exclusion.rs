//! Expelled parties: no connection now, none later, however many peers the party has.

use handover_core::{Code, Party};
use libp2p::PeerId;

use super::{Loop, fail};
use crate::NetError;
use crate::peers::Standing;

/// Peers blocked for one expelled party. Beyond, they are still refused at their hello.
const MAX_BLOCKED_PER_PARTY: usize = 64;

impl Loop {
    pub(super) fn expel(&mut self, party: Party) {
        self.kept.remove(&party);
        for route in self.waiting.extract_if(.., |route| route.party == party) {
            fail(route.caller, NetError::Expelled);
        }
        let ids: Vec<PeerId> = self.peers.of_party(&party).map(|(id, _)| *id).collect();
        self.expelled.entry(party.clone()).or_default();
        for id in ids {
            self.block(&party, id);
        }
        self.publish_admitted();
    }

    /// Takes an expelled party's peer off the admitted, closes its connections and lets it make no new ones.
    pub(super) fn block(&mut self, party: &Party, id: PeerId) {
        self.peers.set_standing(&id, Standing::Refused(Code::NotAdmitted));
        if let Some(peer) = self.peers.get_mut(&id) {
            for request in std::mem::take(&mut peer.waiting) {
                fail(request.caller, NetError::Expelled);
            }
        }
        self.unsettled = true;
        if let Some(blocked) = self.expelled.get_mut(party)
            && (blocked.len() < MAX_BLOCKED_PER_PARTY || blocked.contains(&id))
        {
            blocked.insert(id);
            self.swarm.behaviour_mut().blocked.block_peer(id);
        }
        self.disconnect(id);
    }

    pub(super) fn readmit(&mut self, party: &Party) {
        for peer in self.expelled.remove(party).into_iter().flatten() {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
    }
}
