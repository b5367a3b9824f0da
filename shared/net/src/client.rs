//! The swarm as the application's handle sees it: what it asks of the loop, and what the loop lets everybody see.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use handover_core::Party;
use handover_core::id::SigningPublic;
use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::NetError;
use crate::config::Limits;
use crate::frame::Frame;
use crate::handle::{Network, Presented};
use crate::identity::{Candidate, Route, candidates};
use crate::package::{Opener, PackageStream};
use crate::relay::{Carried, Counters};
use crate::relays::AtRelay;

/// An answer on its way to the swarm. Unbounded in the channel, yet at most one for each request that is counted.
pub(crate) type Answered = (ResponseChannel<Frame>, Frame);

/// A peer to which a route led.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) peer: PeerId,
    pub(crate) presented: Presented,
}

/// An answer channel back to a caller.
pub(crate) type Caller<T> = oneshot::Sender<Result<T, NetError>>;

/// A request that waits for its turn or its answer.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Vec<u8>,
    pub(crate) caller: Caller<Vec<u8>>,
}

/// What the handle asks of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    Resolve { party: Party, candidates: Vec<Candidate>, caller: Caller<Resolved> },
    Send { party: Party, peer: PeerId, request: Outgoing },
    Keep { party: Party, done: oneshot::Sender<()> },
    RenewHello { done: oneshot::Sender<()> },
    Recheck { done: oneshot::Sender<()> },
    Expel { party: Party, done: oneshot::Sender<()> },
    Readmit { party: Party, done: oneshot::Sender<()> },
    Shutdown { done: oneshot::Sender<()> },
}

/// A connected peer that was admitted.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) party: Party,
    /// Ends the package streams that are opened with it from now on.
    pub(crate) streams: CancellationToken,
}

impl Visible {
    /// Who the peer is, if it is connected and admitted.
    pub(crate) fn party_of(&self, peer: &PeerId) -> Option<&Party> {
        self.admitted.get(peer).map(|it| &it.party)
    }

    /// What ends a package stream with this peer, if it is connected and admitted as this party.
    pub(crate) fn streams_of(&self, peer: &PeerId, party: &Party) -> Option<CancellationToken> {
        let admitted = self.admitted.get(peer).filter(|it| it.party == *party)?;
        Some(admitted.streams.clone())
    }
}

/// What the loop lets everyone see.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// Connected peers that were admitted.
    pub(crate) admitted: HashMap<PeerId, Admitted>,
    /// Real listen addresses with `/p2p/`.
    pub(crate) addresses: Vec<String>,
    /// How this process is reached by way of relays.
    pub(crate) relays: Vec<AtRelay>,
    /// Connections with admitted peers, over relays only.
    pub(crate) relayed: usize,
    /// When somebody admitted last dialled this process without a relay.
    pub(crate) dialled: Option<SystemTime>,
}

/// What a handle stands on.
pub(crate) struct Client {
    pub(crate) key: SigningPublic,
    pub(crate) limits: Arc<Limits>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) visible: watch::Receiver<Visible>,
    pub(crate) opener: Opener,
    pub(crate) turned_away: Arc<AtomicU64>,
    pub(crate) carried: Arc<Counters>,
}

#[async_trait::async_trait]
impl Network for Client {
    fn peer_key(&self) -> SigningPublic {
        self.key
    }

    fn addresses(&self) -> Vec<String> {
        self.visible.borrow().addresses.clone()
    }

    fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn at_relays(&self) -> Vec<AtRelay> {
        self.visible.borrow().relays.clone()
    }

    fn last_dialled(&self) -> Option<SystemTime> {
        self.visible.borrow().dialled
    }

    fn connections(&self) -> (usize, usize) {
        let visible = self.visible.borrow();
        (visible.admitted.len().saturating_sub(visible.relayed), visible.relayed)
    }

    fn carried(&self) -> Carried {
        self.carried.read()
    }

    fn connected(&self) -> Vec<Party> {
        let visible = self.visible.borrow();
        let parties: BTreeSet<Party> = visible.admitted.values().map(|it| it.party.clone()).collect();
        parties.into_iter().collect()
    }

    async fn request(&self, to: &Route, body: Vec<u8>) -> Result<Vec<u8>, NetError> {
        let Resolved { peer, .. } = self.resolve(to).await?;
        let (caller, answer) = oneshot::channel();
        let request = Outgoing { body, caller };
        let send = async {
            self.command(Command::Send { party: to.party.clone(), peer, request }).await?;
            answer.await.map_err(|_| NetError::Closed)?
        };
        within(self.limits.request_ms, send).await
    }

    async fn open_package(&self, to: &Route) -> Result<PackageStream, NetError> {
        let Resolved { peer, presented } = self.resolve(to).await?;
        if let Presented::Refused(code) = presented {
            return Err(NetError::NotAdmittedThere(code));
        }
        self.opener.open(peer, &to.party, &self.visible, self.limits.package_open_ms).await
    }

    async fn connect(&self, to: &Route) -> Result<Presented, NetError> {
        let resolved = self.resolve(to).await?;
        self.ask(|done| Command::Keep { party: to.party.clone(), done }).await;
        Ok(resolved.presented)
    }

    async fn renew_hello(&self) {
        self.ask(|done| Command::RenewHello { done }).await;
    }

    async fn recheck(&self) {
        self.ask(|done| Command::Recheck { done }).await;
    }

    async fn expel(&self, party: Party) {
        self.ask(|done| Command::Expel { party, done }).await;
    }

    async fn readmit(&self, party: Party) {
        self.ask(|done| Command::Readmit { party, done }).await;
    }

    async fn shutdown(&self) {
        self.ask(|done| Command::Shutdown { done }).await;
    }
}

impl Client {
    async fn resolve(&self, to: &Route) -> Result<Resolved, NetError> {
        let (caller, answer) = oneshot::channel();
        let command = Command::Resolve { party: to.party.clone(), candidates: candidates(to), caller };
        let resolve = async {
            self.command(command).await?;
            answer.await.map_err(|_| NetError::Closed)?
        };
        within(self.limits.dial_ms, resolve).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, wait) = oneshot::channel();
        if self.command(command(done)).await.is_ok() {
            // The loop ending is as good as its answer: there is nothing left to change.
            let _ = wait.await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), NetError> {
        self.commands.send(command).await.map_err(|_| NetError::Closed)
    }
}

async fn within<T>(limit_ms: u64, work: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
    timeout(Duration::from_millis(limit_ms), work).await.unwrap_or(Err(NetError::TimedOut))
}
