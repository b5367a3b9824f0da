//! The control protocol inside the loop: hellos in both directions, requests in both directions.

use std::time::Instant;

use handover_core::{Code, Party};
use libp2p::PeerId;
use libp2p::request_response::{self, InboundRequestId, Message, OutboundFailure, ResponseChannel};
use tokio::sync::mpsc::error::TrySendError;

use super::{Loop, Sent, fail};
use crate::NetError;
use crate::client::{Caller, Outgoing};
use crate::frame::{Frame, MAX_HELLO_BYTES};
use crate::handle::{Inbound, Presented, Reply};
use crate::peers::Standing;

/// A peer that answers no hello so many times in a row is disconnected.
const MAX_FAILED_HELLOS: u8 = 3;

impl Loop {
    pub(super) fn on_control(&mut self, event: request_response::Event<Frame, Frame>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.on_asked(peer, request_id, request, channel);
                }
                Message::Response { request_id, response } => {
                    if let Some(sent) = self.sent.remove(&request_id) {
                        match sent {
                            Sent::Hello(peer) if self.is_current_hello(&peer, request_id) => {
                                self.on_hello_answered(peer, &response);
                            }
                            Sent::Hello(_) => {}
                            Sent::Request(peer, caller) => self.on_answered(peer, caller, response),
                        }
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "request failed");
                match self.sent.remove(&request_id) {
                    Some(Sent::Hello(peer)) if self.is_current_hello(&peer, request_id) => {
                        self.on_hello_failed(peer);
                    }
                    Some(Sent::Request(peer, caller)) => {
                        fail(caller, failure(&error));
                        self.one_less(peer);
                    }
                    Some(Sent::Hello(_)) | None => {}
                }
            }
            request_response::Event::InboundFailure { peer, request_id, .. }
            | request_response::Event::ResponseSent { peer, request_id, .. } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.inbound.remove(&request_id);
                }
            }
        }
    }

    fn on_asked(
        &mut self,
        id: PeerId,
        request: InboundRequestId,
        frame: Frame,
        channel: ResponseChannel<Frame>,
    ) {
        let answer = match frame {
            Frame::Hello(hello) => self.on_hello(id, hello),
            Frame::Request(body) => return self.on_request(id, request, body, channel),
            Frame::Oversized => Frame::Refused(Code::TooLarge),
            // The codec lets no other kind through.
            Frame::Accepted | Frame::Answer(_) | Frame::Refused(_) => Frame::Refused(Code::Malformed),
        };
        // Fails when the peer is gone or no longer waits.
        let _ = self.swarm.behaviour_mut().control.send_response(channel, answer);
    }

    fn on_hello(&mut self, id: PeerId, hello: Vec<u8>) -> Frame {
        let now = Instant::now();
        if self.peers.get_mut(&id).is_some_and(|peer| peer.take_hello(hello, now)) {
            // Published before the answer is sent: whoever was accepted can open a package at once.
            self.judge(id);
            self.publish_admitted();
        }
        match self.peers.get(&id).map(|peer| &peer.standing) {
            Some(Standing::Admitted(_)) => Frame::Accepted,
            Some(Standing::Refused(code)) => Frame::Refused(*code),
            Some(Standing::Unknown) | None => Frame::Refused(Code::NotAdmitted),
        }
    }

    /// Asks the application who the peer is, by the hello it presented last. The caller publishes.
    pub(super) fn judge(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let Some(hello) = &peer.hello else { return };
        let standing = match self.admission.admit(&peer.key, hello) {
            Ok(party) if self.expelled.contains_key(&party) => return self.block(&party, id),
            Ok(party) => Standing::Admitted(party),
            Err(code) => Standing::Refused(code),
        };
        self.peers.set_standing(&id, standing);
        self.unsettled = true;
    }

    /// Presents this process's hello; `anew` if routes must wait for the peer's answer to it.
    pub(super) fn present(&mut self, id: PeerId, anew: bool) {
        let hello = self.admission.hello();
        if hello.len() > MAX_HELLO_BYTES {
            tracing::error!(hello_bytes = hello.len(), "the hello is larger than allowed");
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let request = self.swarm.behaviour_mut().control.send_request(&id, Frame::Hello(hello));
        peer.presenting = Some(request);
        if anew {
            peer.presented = None;
        }
        self.sent.insert(request, Sent::Hello(id));
    }

    pub(super) fn present_again_if_refused(&mut self, id: PeerId) {
        let presented = self.peers.get(&id).and_then(|peer| peer.presented);
        if matches!(presented, Some(Presented::Refused(_))) {
            self.present(id, true);
        }
    }

    fn is_current_hello(&self, id: &PeerId, request: request_response::OutboundRequestId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.presenting == Some(request))
    }

    fn on_hello_answered(&mut self, id: PeerId, answer: &Frame) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.presenting = None;
        peer.failed_hellos = 0;
        peer.presented = Some(match answer {
            Frame::Accepted => Presented::Accepted,
            Frame::Refused(code) => Presented::Refused(*code),
            _ => Presented::Refused(Code::Malformed),
        });
        self.unsettled = true;
        // Before that a relay knows nobody who asks it for a circuit.
        self.on_relay_dialled(id);
    }

    fn on_hello_failed(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.presenting = None;
        peer.failed_hellos = peer.failed_hellos.saturating_add(1);
        if peer.failed_hellos >= MAX_FAILED_HELLOS {
            self.disconnect(id);
        } else {
            // One of several connections with the peer may have gone with the hello on it.
            let anew = peer.presented.is_none();
            self.present(id, anew);
        }
    }

    fn on_request(
        &mut self,
        id: PeerId,
        request: InboundRequestId,
        body: Vec<u8>,
        channel: ResponseChannel<Frame>,
    ) {
        let answers = self.answers.clone();
        let mut reply = Reply::new(move |answer| {
            // Fails only when the loop has ended, and the connections with it.
            let _ = answers.send((channel, answer.map_or_else(Frame::Refused, Frame::Answer)));
        });
        let strangers = self.peers.requests_of_strangers();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let party = peer.party().cloned();
        let under_way = peer.inbound.len();
        let has_place = if party.is_some() {
            under_way < self.limits.requests_per_peer
        } else {
            under_way < self.limits.requests_unadmitted && strangers < self.limits.requests_of_strangers
        };
        if !has_place {
            return reply.refuse(Code::Busy);
        }
        peer.inbound.insert(request);
        let inbound = Inbound::Request { peer: peer.key, party, body, reply };
        match self.ends.inbound.try_send(inbound) {
            Ok(()) => return,
            Err(TrySendError::Full(Inbound::Request { reply: back, .. })) => reply = back,
            Err(_) => return,
        }
        reply.refuse(Code::Busy);
    }

    /// Sends a request at once or when the peer's turn comes.
    pub(super) fn enqueue(&mut self, party: &Party, id: PeerId, request: Outgoing) {
        let limit = self.limits.waiting_per_peer;
        match self.peers.get_mut(&id) {
            Some(peer) if peer.party() == Some(party) => {
                peer.waiting.retain(|request| !request.caller.is_closed());
                if peer.waiting.len() >= limit {
                    return fail(request.caller, NetError::Busy);
                }
                peer.waiting.push_back(request);
                self.send_waiting(id);
            }
            _ => fail(request.caller, NetError::Unreachable),
        }
    }

    fn send_waiting(&mut self, id: PeerId) {
        let limit = self.limits.requests_per_peer;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        while peer.outbound < limit {
            let Some(Outgoing { body, caller }) = peer.waiting.pop_front() else { return };
            if caller.is_closed() {
                continue;
            }
            let request = self.swarm.behaviour_mut().control.send_request(&id, Frame::Request(body));
            self.sent.insert(request, Sent::Request(id, caller));
            peer.outbound = peer.outbound.saturating_add(1);
        }
    }

    fn on_answered(&mut self, id: PeerId, caller: Caller<Vec<u8>>, answer: Frame) {
        let outcome = match answer {
            Frame::Answer(body) => Ok(body),
            Frame::Refused(code) => Err(NetError::Refused(code)),
            Frame::Oversized => Err(NetError::TooLarge),
            Frame::Accepted | Frame::Hello(_) | Frame::Request(_) => Err(NetError::Protocol),
        };
        // A caller who gave up does not miss the answer.
        drop(caller.send(outcome));
        self.one_less(id);
    }

    fn one_less(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.outbound = peer.outbound.saturating_sub(1);
            self.send_waiting(id);
        }
    }
}

fn failure(error: &OutboundFailure) -> NetError {
    match error {
        OutboundFailure::DialFailure => NetError::Unreachable,
        OutboundFailure::Timeout => NetError::TimedOut,
        OutboundFailure::UnsupportedProtocols => NetError::Protocol,
        OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => NetError::Interrupted,
    }
}
