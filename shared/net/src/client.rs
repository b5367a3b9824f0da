//! The handle that the application holds, and what the loop sends it.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};
use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::NetError;
use crate::config::Limits;
use crate::frame::{Frame, MAX_BODY_BYTES};
use crate::identity::{Candidate, Route, candidates};
use crate::package::{Opener, PackageStream};
use crate::relay::{Carried, Counters};
use crate::relays::AtRelay;

/// What comes from outside.
#[derive(Debug)]
pub enum Inbound {
    /// A request. Without a party the peer was not admitted: the application decides whether it answers.
    Request {
        /// The peer's key, proved by the transport.
        peer: SigningPublic,
        /// Who the peer was admitted as.
        party: Option<Party>,
        /// At most [`MAX_BODY_BYTES`].
        body: Vec<u8>,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A package stream, already accepted.
    Package {
        /// Who the peer was admitted as.
        party: Party,
        /// The stream.
        stream: PackageStream,
    },
    /// The first connection with this party was admitted. A request of its may come before; a party that comes and
    /// goes before this could be said is not reported.
    Connected(Party),
    /// The last admitted connection with this party is gone.
    Disconnected(Party),
}

/// Where the answer to one request goes. Dropped without an answer, the peer is refused with [`Code::Internal`].
pub struct Reply {
    pub(crate) channel: Option<ResponseChannel<Frame>>,
    pub(crate) answers: mpsc::UnboundedSender<Answered>,
}

/// An answer on its way to the swarm. Unbounded in the channel, yet at most one for each request that is counted.
pub(crate) type Answered = (ResponseChannel<Frame>, Frame);

impl Reply {
    /// Answers. A body above [`MAX_BODY_BYTES`] reaches the peer as a refusal with [`Code::TooLarge`]; a peer that
    /// is gone or no longer waits gets nothing.
    pub fn send(self, body: Vec<u8>) {
        let frame = if body.len() > MAX_BODY_BYTES {
            tracing::error!(body_bytes = body.len(), "an answer is larger than allowed");
            Frame::Refused(Code::TooLarge)
        } else {
            Frame::Answer(body)
        };
        self.finish(frame);
    }

    /// Refuses: the peer's caller gets [`NetError::Refused`] with this code.
    pub fn refuse(self, code: Code) {
        self.finish(Frame::Refused(code));
    }

    fn finish(mut self, frame: Frame) {
        self.pass(frame);
    }

    fn pass(&mut self, frame: Frame) {
        if let Some(channel) = self.channel.take() {
            // Fails only when the loop has ended, and the connections with it.
            let _ = self.answers.send((channel, frame));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.pass(Frame::Refused(Code::Internal));
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// How a peer took this process's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// The peer admitted this process.
    Accepted,
    /// It did not: requests arrive there without a party, packages cannot be opened.
    Refused(Code),
}

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

/// What the loop lets everyone see.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// Connected peers that were admitted.
    pub(crate) admitted: HashMap<PeerId, Party>,
    /// Real listen addresses with `/p2p/`.
    pub(crate) addresses: Vec<String>,
    /// How this process is reached by way of relays.
    pub(crate) relays: Vec<AtRelay>,
    /// Connections with admitted peers, over relays only.
    pub(crate) relayed: usize,
    /// When somebody admitted last dialled this process without a relay.
    pub(crate) dialled: Option<SystemTime>,
}

/// A handle to the process's network. Cheap to clone. When the last one is dropped the network shuts down.
#[derive(Clone)]
pub struct Net {
    pub(crate) key: SigningPublic,
    pub(crate) limits: Arc<Limits>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) visible: watch::Receiver<Visible>,
    pub(crate) opener: Opener,
    pub(crate) turned_away: Arc<AtomicU64>,
    pub(crate) carried: Arc<Counters>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Net {
    /// This process's libp2p key.
    #[must_use]
    pub fn peer_key(&self) -> SigningPublic {
        self.key
    }

    /// The addresses that are really listened on, each with `/p2p/<peer id>`. Behind address translation the
    /// outside ones are others.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.visible.borrow().addresses.clone()
    }

    /// How many connections were denied, or closed for others, since the start, because too many strangers knock.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// How this process is reached by way of relays: one for each that was configured.
    #[must_use]
    pub fn at_relays(&self) -> Vec<AtRelay> {
        self.visible.borrow().relays.clone()
    }

    /// When somebody who was admitted last dialled this process directly; none since the start, if absent.
    #[must_use]
    pub fn last_dialled(&self) -> Option<SystemTime> {
        self.visible.borrow().dialled
    }

    /// With how many admitted peers this process is connected directly, and with how many over relays only.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let visible = self.visible.borrow();
        (visible.admitted.len().saturating_sub(visible.relayed), visible.relayed)
    }

    /// What this process has carried as a relay.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.carried.read()
    }

    /// The parties with an admitted connection now, each once.
    #[must_use]
    pub fn connected(&self) -> Vec<Party> {
        let parties: BTreeSet<Party> = self.visible.borrow().admitted.values().cloned().collect();
        parties.into_iter().collect()
    }

    /// Sends a request to the party, over a live connection if there is one, else by dialling the addresses, and
    /// waits for the answer. Is sent also when the peer did not admit this process (it then arrives without a
    /// party: so a hospital enrols).
    ///
    /// # Errors
    ///
    /// With [`NetError::TimedOut`] and [`NetError::Interrupted`] the peer may have acted on the request; with all
    /// others it did not.
    pub async fn request(&self, to: &Route, body: Vec<u8>) -> Result<Vec<u8>, NetError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(NetError::TooLarge);
        }
        let Resolved { peer, .. } = self.resolve(to).await?;
        let (caller, answer) = oneshot::channel();
        let request = Outgoing { body, caller };
        let send = async {
            self.command(Command::Send { party: to.party.clone(), peer, request }).await?;
            answer.await.map_err(|_| NetError::Closed)?
        };
        within(self.limits.request_ms, send).await
    }

    /// Opens a stream for a package. Returns once the other side has accepted it. Streams to one peer are opened
    /// one after another; refused ones are tried again until the limit.
    ///
    /// # Errors
    ///
    /// [`NetError::Busy`] if it was not accepted within the limit, [`NetError::NotAdmittedThere`] if the peer does
    /// not admit this process, and what resolving the route gives.
    pub async fn open_package(&self, to: &Route) -> Result<PackageStream, NetError> {
        let Resolved { peer, presented } = self.resolve(to).await?;
        if let Presented::Refused(code) = presented {
            return Err(NetError::NotAdmittedThere(code));
        }
        self.opener.open(peer, &to.party, &self.visible, self.limits.package_open_ms).await
    }

    /// Makes sure that there is an admitted connection and keeps it from going idle. When it breaks it is not made
    /// again by itself: call this again on [`Inbound::Disconnected`], with back-off.
    ///
    /// # Errors
    ///
    /// Those of resolving the route.
    pub async fn connect(&self, to: &Route) -> Result<Presented, NetError> {
        let resolved = self.resolve(to).await?;
        self.ask(|done| Command::Keep { party: to.party.clone(), done }).await;
        Ok(resolved.presented)
    }

    /// Presents the hello again on all live connections, after [`crate::Admission::hello`] has changed. Requests
    /// made afterwards wait for the peers' answers to it.
    pub async fn renew_hello(&self) {
        self.ask(|done| Command::RenewHello { done }).await;
    }

    /// Asks [`crate::Admission::admit`] again about every connected peer, with the hello it presented last: after
    /// the directory has changed.
    pub async fn recheck(&self) {
        self.ask(|done| Command::Recheck { done }).await;
    }

    /// Closes the party's connections now and refuses its peers until [`Net::readmit`]. Is not remembered over a
    /// restart.
    pub async fn expel(&self, party: Party) {
        self.ask(|done| Command::Expel { party, done }).await;
    }

    /// Takes [`Net::expel`] back.
    pub async fn readmit(&self, party: Party) {
        self.ask(|done| Command::Readmit { party, done }).await;
    }

    /// Closes all connections and listeners; returns when they are closed. Does not wait for answers: the
    /// application drains first. All other handles get [`NetError::Closed`] from then on.
    pub async fn shutdown(self) {
        self.ask(|done| Command::Shutdown { done }).await;
    }

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
