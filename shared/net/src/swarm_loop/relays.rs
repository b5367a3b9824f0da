//! This process's places at relays inside the loop: asked for once the relay is connected and admits this process, and
//! again whenever one was lost.

use std::time::{Instant, SystemTime};

use handover_core::Code;
use libp2p::core::transport::ListenerId;
use libp2p::relay;

use super::Loop;
use crate::handle::Presented;

impl Loop {
    /// Asks the relays whose turn it is.
    pub(super) fn ask_relays(&mut self) {
        let now = Instant::now();
        let mut places = std::mem::take(&mut self.relays.places);
        for place in &mut places {
            if !place.is_due(now) {
                continue;
            }
            // libp2p asks for a place over a direct connection only.
            if self.peers.get(&place.peer).is_some() && !self.peers.is_direct(&place.peer) {
                self.disconnect(place.peer);
                place.failed(Code::RelayAway);
                continue;
            }
            let fault = match self.peers.get(&place.peer).map(|peer| peer.presented) {
                Some(Some(Presented::Accepted)) => match place.circuit().map(|it| self.swarm.listen_on(it)) {
                    Some(Ok(listener)) => {
                        place.asked(listener);
                        continue;
                    }
                    Some(Err(_)) | None => Code::RelayAway,
                },
                Some(Some(Presented::Refused(code))) => {
                    self.present(place.peer, true);
                    code
                }
                Some(None) => Code::RelayAway,
                None => {
                    if !self.dials.by_peer.contains_key(&place.peer) {
                        self.dial(place.peer, place.stages.clone());
                    }
                    Code::RelayAway
                }
            };
            place.failed(fault);
        }
        self.relays.places = places;
        self.publish_relays();
    }

    pub(super) fn on_circuits(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } => {
                if !renewal {
                    tracing::info!(relay = %relay_peer_id, "a relay reaches this process");
                }
                self.relays.reserved(relay_peer_id, SystemTime::now());
                self.publish_relays();
            }
            relay::client::Event::OutboundCircuitEstablished { .. }
            | relay::client::Event::InboundCircuitEstablished { .. } => {}
        }
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, reason: &Result<(), std::io::Error>) {
        if self.relays.closed(listener, reason) {
            tracing::warn!(?reason, "a relay does not reach this process any more");
            self.publish_relays();
        }
    }

    /// Lets everyone see how this process is reached.
    fn publish_relays(&self) {
        let (relays, relayed, dialled) =
            (self.relays.shown(), self.peers.relayed(), self.peers.last_dialled());
        self.ends.visible.send_if_modified(|visible| {
            let dialled = dialled.max(visible.dialled);
            let is_new = (&visible.relays, visible.relayed, visible.dialled) != (&relays, relayed, dialled);
            (visible.relays, visible.relayed, visible.dialled) = (relays, relayed, dialled);
            is_new
        });
    }
}
