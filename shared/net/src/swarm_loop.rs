//! The loop that owns the swarm. An event or a command comes in and is applied; then the routes that wait are
//! looked at again and who is admitted is published. Nothing in here waits for the application.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use handover_core::Party;
use libp2p::core::ConnectedPoint;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::DropGuard;

use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::client::{Answered, Caller, Command, Visible};
use crate::config::Limits;
use crate::handle::Inbound;
use crate::identity::{is_relayed, signing_public};
use crate::peers::{Came, Peer, Peers};
use crate::relays::Relays;
use crate::routes::{Dials, Waiting};
use crate::{Admission, NetError};

mod control;
mod exclusion;
mod relays;
mod routing;

/// What the swarm reports.
pub(crate) type Event = SwarmEvent<BehaviourEvent>;

/// The longest between two looks at callers who gave up.
const TICK_MS: u64 = 1_000;
/// Kept connections show a sign of life this many times within the idle limit.
const SIGNS_PER_IDLE: u64 = 3;
/// Until connections must have closed at shutdown.
const CLOSE_MS: u64 = 1_000;

/// The loop's ends of the channels.
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) inbound: mpsc::Sender<Inbound>,
    pub(crate) visible: watch::Sender<Visible>,
    /// Ends the package acceptor with the loop.
    pub(crate) _ended: DropGuard,
}

/// A request to a peer under way.
enum Sent {
    Hello(PeerId),
    Request(PeerId, Caller<Vec<u8>>),
}

/// The loop's state.
pub(crate) struct Loop {
    swarm: Swarm<Behaviour>,
    admission: Arc<dyn Admission>,
    limits: Arc<Limits>,
    ends: Ends,
    answers: mpsc::UnboundedSender<Answered>,
    answer_queue: mpsc::UnboundedReceiver<Answered>,
    peers: Peers,
    dials: Dials,
    relays: Relays,
    waiting: Vec<Waiting>,
    sent: HashMap<OutboundRequestId, Sent>,
    /// Parties whose connections must not go idle.
    kept: HashSet<Party>,
    /// Expelled parties, with those of their peers that are blocked.
    expelled: HashMap<Party, HashSet<PeerId>>,
    /// Something changed that waiting routes depend on.
    unsettled: bool,
    last_sign: Instant,
}

impl Loop {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        admission: Arc<dyn Admission>,
        limits: Arc<Limits>,
        relays: Relays,
        ends: Ends,
    ) -> Self {
        let (answers, answer_queue) = mpsc::unbounded_channel();
        let this = Self {
            swarm,
            admission,
            limits,
            ends,
            answers,
            answer_queue,
            peers: Peers::default(),
            dials: Dials::default(),
            relays,
            waiting: Vec::new(),
            sent: HashMap::new(),
            kept: HashSet::new(),
            expelled: HashMap::new(),
            unsettled: false,
            last_sign: Instant::now(),
        };
        this.publish_addresses();
        this
    }

    pub(crate) async fn run(mut self, early: Vec<Event>) {
        for event in early {
            self.on_event(event);
        }
        let sign_ms = (self.limits.idle_ms / SIGNS_PER_IDLE).max(1);
        let mut tick = interval(Duration::from_millis(sign_ms.min(TICK_MS)));
        let shutdown = loop {
            self.settle();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.ends.commands.recv() => match command {
                    Some(Command::Shutdown { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some((channel, frame)) = self.answer_queue.recv() => {
                    // Fails when the peer is gone or no longer waits; its request is counted down by that event.
                    let _ = self.swarm.behaviour_mut().control.send_response(channel, frame);
                }
                slot = self.ends.inbound.clone().reserve_owned(), if self.peers.has_news() => match slot {
                    Ok(slot) => self.announce(slot),
                    Err(_) => self.peers.drop_news(),
                },
                _ = tick.tick() => self.on_tick(Duration::from_millis(sign_ms)),
            }
        };
        self.close(shutdown).await;
    }

    fn announce(&mut self, slot: mpsc::OwnedPermit<Inbound>) {
        match self.peers.next_news() {
            Some((party, true)) => drop(slot.send(Inbound::Connected(party))),
            Some((party, false)) => drop(slot.send(Inbound::Disconnected(party))),
            None => {}
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Control(event)) => self.on_control(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                // A peer that has no ping is alive all the same.
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            })) => {
                self.close_connection(peer, connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Circuits(event)) => self.on_circuits(&event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.on_disconnected(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.closed(connection_id);
                    let is_presented = peer.presented.is_some();
                    // The hello may have gone with it.
                    self.present(peer_id, !is_presented);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), connection_id, error } => {
                self.on_dial_failed(peer, connection_id, &error);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.publish_addresses();
                self.on_listener_closed(listener_id, &reason);
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.publish_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Resolve { party, candidates, caller } => self.resolve(party, candidates, caller),
            Command::Send { party, peer, request } => self.enqueue(&party, peer, request),
            Command::Keep { party, done } => {
                self.kept.insert(party);
                finished(done);
            }
            Command::RenewHello { done } => {
                for id in self.peers.ids() {
                    self.present(id, true);
                }
                finished(done);
            }
            Command::Recheck { done } => {
                for id in self.peers.ids() {
                    self.judge(id);
                }
                self.publish_admitted();
                finished(done);
            }
            Command::Expel { party, done } => {
                self.expel(party);
                finished(done);
            }
            Command::Readmit { party, done } => {
                self.readmit(&party);
                finished(done);
            }
            Command::Shutdown { .. } => {}
        }
    }

    fn on_tick(&mut self, sign: Duration) {
        self.waiting.retain(|route| !route.caller.is_closed());
        self.ask_relays();
        if self.last_sign.elapsed() < sign {
            return;
        }
        self.last_sign = Instant::now();
        // The hello as a sign of life: the peer looks at the certificate's time again by it.
        for id in self.peers.ids() {
            let party = self.peers.get(&id).and_then(Peer::party);
            if party.is_some_and(|party| self.kept.contains(party)) || self.relays.contains(&id) {
                self.present(id, false);
            }
        }
    }

    fn on_connected(&mut self, id: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let came = Came { by_peer: endpoint.is_listener(), relayed: endpoint.is_relayed() };
        if self.dials.by_peer.get(&id).is_some_and(|dial| dial.makes(connection)) {
            self.dials.by_peer.remove(&id);
        }
        self.unsettled = true;
        let now = Instant::now().into_std();
        if let Some(peer) = self.peers.get_mut(&id) {
            // It may be another process with the same key: the one before was killed, and its connection is not
            // known to be dead yet. It has never seen this process's hello.
            for dead in peer.connected(connection, came, now, self.limits.address_limit()) {
                self.close_connection(id, dead);
            }
            self.present(id, false);
            return;
        }
        let Some(key) = signing_public(&id) else {
            tracing::debug!("peer with another kind of key");
            self.disconnect(id);
            return;
        };
        let mut peer = Peer::new(key, now);
        peer.connected(connection, came, now, self.limits.address_limit());
        self.peers.insert(id, peer);
        self.present(id, true);
    }

    fn on_disconnected(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else { return };
        for request in peer.waiting {
            fail(request.caller, NetError::Unreachable);
        }
        self.unsettled = true;
        self.publish_admitted();
        self.on_relay_dialled(id);
    }

    fn close_connection(&mut self, id: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        self.peers.closing(&id);
        self.publish_admitted();
    }

    fn disconnect(&mut self, id: PeerId) {
        self.peers.closing(&id);
        self.publish_admitted();
        // Fails only when there is no connection left to close.
        let _ = self.swarm.disconnect_peer_id(id);
    }

    /// Lets everyone see who is admitted, if that has changed.
    fn publish_admitted(&mut self) {
        let Some(admitted) = self.peers.newly_admitted() else { return };
        self.swarm.behaviour_mut().door.admit(admitted.keys().copied().collect());
        self.ends.visible.send_modify(|visible| visible.admitted = admitted);
    }

    fn publish_addresses(&self) {
        let own = *self.swarm.local_peer_id();
        let addresses = self.swarm.listeners().filter(|address| !is_relayed(address));
        let addresses = addresses.map(|address| format!("{address}/p2p/{own}")).collect();
        self.ends.visible.send_modify(|visible| visible.addresses = addresses);
    }

    /// Closes everything. Callers who wait are told by their channels being dropped with the loop.
    async fn close(mut self, done: Option<oneshot::Sender<()>>) {
        self.ends.commands.close();
        self.ends.visible.send_modify(|visible| visible.admitted.clear());
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for id in connected {
            self.peers.closing(&id);
            // Fails only when there is no connection left to close.
            let _ = self.swarm.disconnect_peer_id(id);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(Duration::from_millis(CLOSE_MS), closed).await.is_err() {
            tracing::debug!("not every connection closed in time");
        }
        // The listeners close with the swarm.
        drop(self);
        if let Some(done) = done {
            finished(done);
        }
    }
}

/// Tells a caller that its command was applied; one who gave up does not miss it.
fn finished(done: oneshot::Sender<()>) {
    let _ = done.send(());
}

/// Tells a caller why not; one who gave up does not miss it.
fn fail<T>(caller: Caller<T>, why: NetError) {
    let _ = caller.send(Err(why));
}
