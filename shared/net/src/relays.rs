//! The relays at which this process keeps a place, so that it is reached although nobody can dial it: which there are,
//! and when each is asked again.
//!
//! Invariant: a relay that refuses, or is away, is asked again and again, with pauses that grow up to [`LAST_PAUSE`].

use std::time::{Duration, Instant, SystemTime};

use handover_core::Code;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::relay::outbound::hop::ReserveError;
use libp2p::{Multiaddr, PeerId};

use crate::identity::{Candidate, Route, candidates};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts at one relay.
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How this process is reached by way of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtRelay {
    /// The relay's peer id.
    pub relay: String,
    /// Since when it has a place there; absent: it has none.
    pub since: Option<SystemTime>,
    /// Why it has none: [`Code::RelayAway`], [`Code::RelayFull`], [`Code::NotARelay`], or why the relay does not admit
    /// this process.
    pub fault: Option<Code>,
}

/// One relay.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) peer: PeerId,
    pub(crate) stages: Vec<Vec<Multiaddr>>,
    /// While one is there, the place is had or being asked for.
    listener: Option<ListenerId>,
    since: Option<SystemTime>,
    fault: Option<Code>,
    next: Option<Instant>,
    pause: Duration,
}

impl Place {
    /// What is listened on for a place there.
    pub(crate) fn circuit(&self) -> Option<Multiaddr> {
        let address = self.stages.first()?.first()?.clone();
        Some(address.with(Protocol::P2pCircuit))
    }

    /// Whether it is to be asked for a place now; counts as an attempt.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if self.listener.is_some() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = now.checked_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LAST_PAUSE);
        true
    }

    /// It was asked.
    pub(crate) fn asked(&mut self, listener: ListenerId) {
        self.listener = Some(listener);
    }

    /// There is none, and why.
    pub(crate) fn failed(&mut self, fault: Code) {
        self.listener = None;
        self.since = None;
        self.fault = Some(fault);
    }
}

/// All relays of this process.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    pub(crate) places: Vec<Place>,
}

impl Relays {
    /// Those with these addresses; what is no address with a peer id is passed over.
    pub(crate) fn of(addresses: &[String]) -> Self {
        // Whose they are does not matter: relays are told apart by their keys.
        let route = Route { party: handover_core::Party::Index, addresses: addresses.to_vec() };
        let place = |candidate: Candidate| Place {
            peer: candidate.peer,
            stages: candidate.stages(),
            listener: None,
            since: None,
            fault: Some(Code::RelayAway),
            next: None,
            pause: FIRST_PAUSE,
        };
        Self { places: candidates(&route).into_iter().map(place).collect() }
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.places.iter().any(|place| place.peer == *peer)
    }

    /// The relay has given, or renewed, the place.
    pub(crate) fn reserved(&mut self, relay: &PeerId, now: SystemTime) {
        for place in self.places.iter_mut().filter(|place| place.peer == *relay) {
            place.since = place.since.or(Some(now));
            place.fault = None;
            place.next = None;
            place.pause = FIRST_PAUSE;
        }
    }

    /// A place is lost, or was not given; whether it was one of these.
    pub(crate) fn closed(&mut self, listener: ListenerId, reason: &Result<(), std::io::Error>) -> bool {
        let Some(place) = self.places.iter_mut().find(|place| place.listener == Some(listener)) else {
            return false;
        };
        place.failed(reason.as_ref().err().map_or(Code::RelayAway, |error| fault(error)));
        true
    }

    pub(crate) fn shown(&self) -> Vec<AtRelay> {
        let shown =
            |place: &Place| AtRelay { relay: place.peer.to_base58(), since: place.since, fault: place.fault };
        self.places.iter().map(shown).collect()
    }
}

/// What a relay's refusal comes to.
fn fault(error: &(dyn std::error::Error + 'static)) -> Code {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(ReserveError::Unsupported) => return Code::NotARelay,
            Some(ReserveError::Refused | ReserveError::ResourceLimitExceeded) => return Code::RelayFull,
            _ => cause = error.source(),
        }
    }
    Code::RelayAway
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_asked_again_with_bounded_pauses() {
        let relay = PeerId::random();
        let mut relays = Relays::of(&[
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}"),
            format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{relay}"),
            "nonsense".to_owned(),
        ]);
        assert!(relays.contains(&relay) && relays.places.len() == 1);
        let (mut now, mut waits) = (Instant::now(), Vec::new());
        for _ in 0..8 {
            let begun = now;
            while !relays.places[0].is_due(now) {
                now += FIRST_PAUSE;
            }
            waits.push((now - begun).as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
        relays.places[0].asked(ListenerId::next());
        assert!(!relays.places[0].is_due(now + LAST_PAUSE), "it is being asked");
        relays.reserved(&relay, SystemTime::now());
        assert!(relays.shown()[0].since.is_some() && relays.shown()[0].fault.is_none());
        let listener = relays.places[0].listener.unwrap();
        assert!(relays.closed(listener, &Ok(())) && !relays.closed(listener, &Ok(())));
        assert_eq!(relays.shown()[0].fault, Some(Code::RelayAway));
        assert!(relays.places[0].is_due(now), "after a place that was had, at once");
    }

    #[test]
    fn a_refusal_says_why() {
        for (error, code) in [
            (ReserveError::Unsupported, Code::NotARelay),
            (ReserveError::Refused, Code::RelayFull),
            (ReserveError::Io(std::io::ErrorKind::TimedOut.into()), Code::RelayAway),
        ] {
            // As the swarm tells it.
            let error = std::io::Error::other(libp2p::relay::client::transport::Error::Reservation(error));
            assert_eq!(fault(&error), code);
        }
    }
}
