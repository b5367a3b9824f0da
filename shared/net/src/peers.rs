//! The connected peers: what each showed, how each took this process's hello, what is under way with each.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};
use libp2p::PeerId;
use libp2p::request_response::{InboundRequestId, OutboundRequestId};
use libp2p::swarm::ConnectionId;
use tokio_util::sync::CancellationToken;

use crate::client::{Admitted, Outgoing};
use crate::handle::Presented;

/// A peer's hellos that are looked at within [`HELLO_WINDOW`]: each costs signature checks.
const MAX_HELLOS: u8 = 30;
const HELLO_WINDOW: Duration = Duration::from_secs(10);
/// Longer than any.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// What this process holds of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not presented anything yet.
    Unknown,
    Admitted(Party),
    Refused(Code),
}

/// How a connection came about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    /// The peer dialled.
    pub(crate) by_peer: bool,
    /// Over a relay.
    pub(crate) relayed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    since: Instant,
    /// The same, to be told.
    at: SystemTime,
    came: Came,
}

/// One peer with at least one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: SigningPublic,
    /// Ends its package streams, see [`Peer::end_streams`].
    streams: CancellationToken,
    /// Its connections.
    connections: HashMap<ConnectionId, Connection>,
    pub(crate) standing: Standing,
    /// What the peer presented last.
    pub(crate) hello: Option<Vec<u8>>,
    hellos: u8,
    hellos_since: Instant,
    /// How the peer took this process's hello; none until its answer.
    pub(crate) presented: Option<Presented>,
    /// This process's hello under way; an answer to an older one is passed over.
    pub(crate) presenting: Option<OutboundRequestId>,
    /// Hellos that failed without an answer, one after another.
    pub(crate) failed_hellos: u8,
    /// Its requests that have no answer yet.
    pub(crate) inbound: HashSet<InboundRequestId>,
    /// Requests to it that have no answer yet.
    pub(crate) outbound: usize,
    /// Requests to it that wait for their turn.
    pub(crate) waiting: VecDeque<Outgoing>,
}

impl Peer {
    pub(crate) fn new(key: SigningPublic, now: Instant) -> Self {
        Self {
            key,
            streams: CancellationToken::new(),
            connections: HashMap::new(),
            standing: Standing::Unknown,
            hello: None,
            hellos: 0,
            hellos_since: now,
            presented: None,
            presenting: None,
            failed_hellos: 0,
            inbound: HashSet::new(),
            outbound: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Notes a connection; which older ones it shows to be dead.
    ///
    /// No process begins to dial a peer that it is connected with, so one that dials is a new process with the same
    /// key, or has lost the old connections. Only of a connection that is no older than two times `dial` this does not
    /// tell: it may have come about meanwhile, and both sides would close the other's. A peer dials for so long, and
    /// what it has made can take as long once more until it is known here, if the last of its packets are lost.
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        came: Came,
        now: Instant,
        dial: Duration,
    ) -> Vec<ConnectionId> {
        let is_dead = |it: &Connection| came.by_peer && now.duration_since(it.since) > 2 * dial + ROUND_TRIP;
        let dead = self.connections.iter().filter(|(_, it)| is_dead(it)).map(|(id, _)| *id).collect();
        self.connections.insert(connection, Connection { since: now, at: SystemTime::now(), came });
        dead
    }

    /// Forgets a connection that is closed.
    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Ends the package streams that the peer has now, whichever of its connections they are on. Whoever closes a
    /// connection has to: yamux 0.14 wakes nobody who reads from a stream of a connection that its own side closes
    /// (rust-yamux, issue 216).
    fn end_streams(&mut self) {
        std::mem::take(&mut self.streams).cancel();
    }

    /// Takes what the peer presents; false if it presents too often to be looked at.
    pub(crate) fn take_hello(&mut self, hello: Vec<u8>, now: Instant) -> bool {
        if now.duration_since(self.hellos_since) >= HELLO_WINDOW {
            self.hellos = 0;
            self.hellos_since = now;
        }
        if self.hellos >= MAX_HELLOS {
            return false;
        }
        self.hellos = self.hellos.saturating_add(1);
        self.hello = Some(hello);
        true
    }

    pub(crate) fn party(&self) -> Option<&Party> {
        match &self.standing {
            Standing::Admitted(party) => Some(party),
            Standing::Unknown | Standing::Refused(_) => None,
        }
    }
}

/// All connected peers, and which parties' presence the application has yet to hear of.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: HashMap<PeerId, Peer>,
    /// Parties that the application was told are connected.
    announced: BTreeSet<Party>,
    /// Parties whose presence may differ from what was announced.
    changed: BTreeSet<Party>,
    /// Who is admitted differs from what [`Peers::newly_admitted`] gave last.
    stale: bool,
}

impl Peers {
    pub(crate) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.by_id.get(id)
    }

    /// Whether it is connected without a relay in between.
    pub(crate) fn is_direct(&self, id: &PeerId) -> bool {
        self.get(id).is_some_and(|peer| peer.connections.values().any(|it| !it.came.relayed))
    }

    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn insert(&mut self, id: PeerId, peer: Peer) {
        self.by_id.insert(id, peer);
    }

    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<Peer> {
        let peer = self.by_id.remove(id)?;
        self.note(peer.party().cloned());
        Some(peer)
    }

    /// A connection of the peer's is being closed by this side.
    pub(crate) fn closing(&mut self, id: &PeerId) {
        let Some(peer) = self.by_id.get_mut(id) else { return };
        peer.end_streams();
        self.stale |= peer.party().is_some();
    }

    /// How many admitted peers are connected over relays only.
    pub(crate) fn relayed(&self) -> usize {
        let is_relayed = |peer: &&Peer| peer.connections.values().all(|it| it.came.relayed);
        self.by_id.values().filter(|peer| peer.party().is_some()).filter(is_relayed).count()
    }

    /// When an admitted peer that is connected dialled last, without a relay.
    pub(crate) fn last_dialled(&self) -> Option<SystemTime> {
        let admitted = self.by_id.values().filter(|peer| peer.party().is_some());
        let direct = |it: &&Connection| it.came.by_peer && !it.came.relayed;
        admitted.flat_map(|peer| peer.connections.values().filter(direct)).map(|it| it.at).max()
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn of_party(&self, party: &Party) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.by_id.iter().filter(move |(_, peer)| peer.party() == Some(party))
    }

    /// Requests of peers that are not admitted, without an answer yet.
    pub(crate) fn requests_of_strangers(&self) -> usize {
        self.by_id.values().filter(|peer| peer.party().is_none()).map(|peer| peer.inbound.len()).sum()
    }

    pub(crate) fn set_standing(&mut self, id: &PeerId, standing: Standing) {
        let Some(peer) = self.by_id.get_mut(id) else { return };
        if peer.standing == standing {
            return;
        }
        let before = peer.party().cloned();
        peer.standing = standing;
        let after = peer.party().cloned();
        self.note(before);
        self.note(after);
    }

    fn note(&mut self, party: Option<Party>) {
        self.stale |= party.is_some();
        self.changed.extend(party);
    }

    /// Who is admitted, if that has changed since it was asked last.
    pub(crate) fn newly_admitted(&mut self) -> Option<HashMap<PeerId, Admitted>> {
        std::mem::take(&mut self.stale).then(|| self.admitted())
    }

    fn admitted(&self) -> HashMap<PeerId, Admitted> {
        let admitted =
            |peer: &Peer| Some(Admitted { party: peer.party()?.clone(), streams: peer.streams.clone() });
        self.by_id.iter().filter_map(|(id, peer)| Some((*id, admitted(peer)?))).collect()
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Nobody listens to news any more.
    pub(crate) fn drop_news(&mut self) {
        self.changed.clear();
    }

    /// The next party whose presence differs from what was announced, with its presence; marks it announced.
    pub(crate) fn next_news(&mut self) -> Option<(Party, bool)> {
        while let Some(party) = self.changed.pop_first() {
            let present = self.of_party(&party).next().is_some();
            // Who went before it was told that they had come is told of all the same: somebody may wait for that.
            let was_announced = self.announced.remove(&party);
            if present {
                self.announced.insert(party.clone());
            }
            if !(present && was_announced) {
                return Some((party, present));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new(SigningPublic::from_bytes([0; 32]), Instant::now())
    }

    #[test]
    fn a_party_is_announced_once_however_many_peers_it_has() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut peers = Peers::default();
        for id in [one, two] {
            peers.insert(id, peer());
            peers.set_standing(&id, Standing::Admitted(Party::Index));
            assert!(peers.newly_admitted().is_some_and(|admitted| admitted.contains_key(&id)));
            assert!(peers.newly_admitted().is_none());
        }
        assert_eq!(peers.next_news(), Some((Party::Index, true)));
        assert_eq!(peers.next_news(), None);
        peers.remove(&one);
        assert_eq!(peers.next_news(), None);
        peers.remove(&two);
        assert_eq!(peers.next_news(), Some((Party::Index, false)));
    }

    #[test]
    fn too_many_hellos_are_not_looked_at_until_the_window_has_passed() {
        let mut peer = peer();
        let now = peer.hellos_since;
        for _ in 0..MAX_HELLOS {
            assert!(peer.take_hello(vec![1], now));
        }
        assert!(!peer.take_hello(vec![2], now));
        assert_eq!(peer.hello, Some(vec![1]));
        assert!(peer.take_hello(vec![2], now + HELLO_WINDOW));
    }

    #[test]
    fn a_peer_that_dials_again_has_lost_its_old_connections() {
        let mut peer = peer();
        let dial = Duration::from_secs(5);
        let begun = peer.hellos_since;
        let slow = begun + 2 * dial + ROUND_TRIP;
        let later = slow + ROUND_TRIP;
        let [old, crossed, own, new] = [1, 2, 3, 4].map(ConnectionId::new_unchecked);
        let [to_peer, by_peer] = [false, true].map(|by_peer| Came { by_peer, relayed: false });
        assert!(peer.connected(old, to_peer, begun, dial).is_empty());
        assert!(peer.connected(crossed, by_peer, slow, dial).is_empty());
        peer.closed(crossed);
        assert!(peer.connected(own, to_peer, later, dial).is_empty());
        assert_eq!(peer.connected(new, by_peer, later, dial), [old]);
    }

    #[test]
    fn a_change_of_party_is_news_of_both() {
        let id = PeerId::random();
        let mut peers = Peers::default();
        peers.insert(id, peer());
        peers.set_standing(&id, Standing::Admitted(Party::Index));
        assert_eq!(peers.next_news(), Some((Party::Index, true)));
        let hospital: Party = "lakeside".parse().unwrap();
        peers.set_standing(&id, Standing::Admitted(hospital.clone()));
        let mut news = vec![peers.next_news().unwrap(), peers.next_news().unwrap()];
        news.sort();
        assert_eq!(news, [(Party::Index, false), (hospital, true)]);
        assert!(!peers.has_news());
    }
}
