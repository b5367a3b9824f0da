//! The handle that the application holds, and what comes to it from outside.

use std::sync::Arc;
use std::time::SystemTime;

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};

use crate::NetError;
use crate::frame::MAX_BODY_BYTES;
use crate::identity::Route;
use crate::package::PackageStream;
use crate::relay::Carried;
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

/// Takes the answer to one request, or why it is refused.
type Answering = Box<dyn FnOnce(Result<Vec<u8>, Code>) + Send>;

/// Where the answer to one request goes. Dropped without an answer, the peer is refused with [`Code::Internal`].
pub struct Reply(Option<Answering>);

impl Reply {
    /// Calls `answering` once, with the answer or the refusal.
    #[must_use]
    pub fn new(answering: impl FnOnce(Result<Vec<u8>, Code>) + Send + 'static) -> Self {
        Self(Some(Box::new(answering)))
    }

    /// Answers. A body above [`MAX_BODY_BYTES`] reaches the peer as a refusal with [`Code::TooLarge`]; a peer that
    /// is gone or no longer waits gets nothing.
    pub fn send(mut self, body: Vec<u8>) {
        let fits = body.len() <= MAX_BODY_BYTES;
        if !fits {
            tracing::error!(body_bytes = body.len(), "an answer is larger than allowed");
        }
        self.pass(if fits { Ok(body) } else { Err(Code::TooLarge) });
    }

    /// Refuses: the peer's caller gets [`NetError::Refused`] with this code.
    pub fn refuse(mut self, code: Code) {
        self.pass(Err(code));
    }

    fn pass(&mut self, answer: Result<Vec<u8>, Code>) {
        if let Some(answering) = self.0.take() {
            answering(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.pass(Err(Code::Internal));
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

/// What carries between this process and others: the swarm that [`crate::start`] gives, or a simulated network. The
/// methods are those of [`Net`], where they are described.
#[expect(missing_docs, reason = "each is described where it is called, at `Net`")]
#[async_trait::async_trait]
pub trait Network: Send + Sync + 'static {
    fn peer_key(&self) -> SigningPublic;
    fn addresses(&self) -> Vec<String>;
    fn connected(&self) -> Vec<Party>;
    async fn request(&self, to: &Route, body: Vec<u8>) -> Result<Vec<u8>, NetError>;
    async fn open_package(&self, to: &Route) -> Result<PackageStream, NetError>;
    async fn connect(&self, to: &Route) -> Result<Presented, NetError>;
    async fn renew_hello(&self);
    async fn recheck(&self);
    async fn expel(&self, party: Party);
    async fn readmit(&self, party: Party);
    async fn shutdown(&self);

    fn turned_away(&self) -> u64 {
        0
    }

    fn at_relays(&self) -> Vec<AtRelay> {
        Vec::new()
    }

    fn last_dialled(&self) -> Option<SystemTime> {
        None
    }

    fn connections(&self) -> (usize, usize) {
        (self.connected().len(), 0)
    }

    fn carried(&self) -> Carried {
        Carried::default()
    }
}

/// A handle to the process's network. Cheap to clone. When the last one is dropped the network shuts down.
#[derive(Clone)]
pub struct Net(Arc<dyn Network>);

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("key", &self.peer_key()).finish_non_exhaustive()
    }
}

impl Net {
    /// A handle to this network.
    #[must_use]
    pub fn over(network: impl Network) -> Self {
        Self(Arc::new(network))
    }

    /// This process's libp2p key.
    #[must_use]
    pub fn peer_key(&self) -> SigningPublic {
        self.0.peer_key()
    }

    /// The addresses that are really listened on, each with `/p2p/<peer id>`. Behind address translation the
    /// outside ones are others.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.0.addresses()
    }

    /// How many connections were denied, or closed for others, since the start, because too many strangers knock.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.0.turned_away()
    }

    /// How this process is reached by way of relays: one for each that was configured.
    #[must_use]
    pub fn at_relays(&self) -> Vec<AtRelay> {
        self.0.at_relays()
    }

    /// When somebody who was admitted last dialled this process directly; none since the start, if absent.
    #[must_use]
    pub fn last_dialled(&self) -> Option<SystemTime> {
        self.0.last_dialled()
    }

    /// With how many admitted peers this process is connected directly, and with how many over relays only.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.0.connections()
    }

    /// What this process has carried as a relay.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.0.carried()
    }

    /// The parties with an admitted connection now, each once.
    #[must_use]
    pub fn connected(&self) -> Vec<Party> {
        self.0.connected()
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
        self.0.request(to, body).await
    }

    /// Opens a stream for a package. Returns once the other side has accepted it. Streams to one peer are opened
    /// one after another; refused ones are tried again until the limit.
    ///
    /// # Errors
    ///
    /// [`NetError::Busy`] if it was not accepted within the limit, [`NetError::NotAdmittedThere`] if the peer does
    /// not admit this process, and what resolving the route gives.
    pub async fn open_package(&self, to: &Route) -> Result<PackageStream, NetError> {
        self.0.open_package(to).await
    }

    /// Makes sure that there is an admitted connection and keeps it from going idle. When it breaks it is not made
    /// again by itself: call this again on [`Inbound::Disconnected`], with back-off.
    ///
    /// # Errors
    ///
    /// Those of resolving the route.
    pub async fn connect(&self, to: &Route) -> Result<Presented, NetError> {
        self.0.connect(to).await
    }

    /// Presents the hello again on all live connections, after [`crate::Admission::hello`] has changed. Requests
    /// made afterwards wait for the peers' answers to it.
    pub async fn renew_hello(&self) {
        self.0.renew_hello().await;
    }

    /// Asks [`crate::Admission::admit`] again about every connected peer, with the hello it presented last: after
    /// the directory has changed.
    pub async fn recheck(&self) {
        self.0.recheck().await;
    }

    /// Closes the party's connections now and refuses its peers until [`Net::readmit`]. Is not remembered over a
    /// restart.
    pub async fn expel(&self, party: Party) {
        self.0.expel(party).await;
    }

    /// Takes [`Net::expel`] back.
    pub async fn readmit(&self, party: Party) {
        self.0.readmit(party).await;
    }

    /// Closes all connections and listeners; returns when they are closed. Does not wait for answers: the
    /// application drains first. All other handles get [`NetError::Closed`] from then on.
    pub async fn shutdown(self) {
        self.0.shutdown().await;
    }
}
