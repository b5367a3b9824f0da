//! A hospital on the real network that keeps no promise, and a patient who signs whatever a test wants.
//!
//! It speaks to real processes over real sockets with keys of its own, is admitted by the real root and operators
//! like any other, and then says whatever it is told to. The package format is written down here a second time
//! ([`wire`]), so that what the nodes read is not only what they wrote.
//!
//! Invariants: nothing waits without a limit; whatever the other side answers is handed on as its code.

pub mod admission;
pub mod books;
pub mod deposit;
pub mod index;
pub mod person;
pub mod request;
pub mod sale;
pub mod stranger;
pub mod stream;
pub mod wire;
pub mod words;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::federation::EndpointCertificate;
use handover_core::artefact::patient::Revocation;
use handover_core::artefact::{Payload, Signed, Verified, peek_type};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::id::SigningPublic;
use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_core::rules::Context;
use handover_core::time::{Clock as _, DAY_MS};
use handover_core::trust::{Federation, Gathering, Head, Hello, admit};
use handover_core::{Code, HospitalId, Party, Timestamp, TransferId};
use handover_net::{Admission, Inbound, Limits, Net, NetConfig, PackageStream, Presented, Route};
use handover_seal::{Ed25519, SystemClock};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::fixture::Hospital;
use stream::Stream;

/// No event is waited for any longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How far the rogue's clock is ahead, in milliseconds.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Sets the clock of all rogues, for worlds whose clocks are set.
pub fn set_ahead_ms(ahead: i64) {
    AHEAD_MS.store(ahead, Ordering::Relaxed);
}

/// Now.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now().plus_ms(AHEAD_MS.load(Ordering::Relaxed))
}

fn none() -> Extensions {
    Extensions::default()
}

/// The directory that is believed now, shared with the gate.
type Held = Arc<Mutex<Option<Arc<Federation>>>>;

/// Lets others in honestly: who they are decides the directory.
struct Gate {
    hello: Vec<u8>,
    root: SigningPublic,
    held: Held,
}

impl Admission for Gate {
    fn hello(&self) -> Vec<u8> {
        self.hello.clone()
    }

    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        admit(hello, peer, &self.root, held.as_deref(), now(), &Ed25519)
    }
}

/// A hospital that keeps no promise.
pub struct Rogue {
    /// Who it says it is.
    pub keys: &'static Hospital,
    runtime: Runtime,
    net: Net,
    index: Route,
    root: SigningPublic,
    held: Held,
    /// Artefacts as they come, and those that nobody has wanted yet.
    mail: mpsc::UnboundedReceiver<Vec<u8>>,
    unread: VecDeque<Vec<u8>>,
    packages: mpsc::UnboundedReceiver<PackageStream>,
}

impl Rogue {
    /// Starts it on a port of its own; nobody knows it yet.
    ///
    /// # Errors
    /// Nothing can be listened on.
    pub fn start(keys: &'static Hospital, root: SigningPublic, index: Vec<String>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let endpoint = EndpointCertificate {
            party: Party::Hospital(keys.id.clone()),
            key: keys.endpoint_key.public(),
            not_before: now().plus_ms(-DAY_MS),
            not_after: now().plus_ms(DAY_MS),
            extensions: none(),
        };
        let endpoint = Verified::sign(endpoint, &keys.signing).envelope().to_vec().into();
        let hello = codec::encode(&Hello { endpoint, authority: None, extensions: none() });
        let held = Held::default();
        let gate = Arc::new(Gate { hello, root, held: Arc::clone(&held) });
        let config = NetConfig {
            key_seed: (*keys.endpoint_key.seed().expose()).into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            relays: Vec::new(),
            relay: None,
            limits: Limits {
                dial_ms: 3_000,
                package_open_ms: 2_000,
                // More at one time than the other side takes.
                requests_per_peer: 64,
                waiting_per_peer: 1_000,
                ..Limits::default()
            },
        };
        let (net, inbound) = runtime.block_on(handover_net::start(config, gate))?;
        let (letters, mail) = mpsc::unbounded_channel();
        let (streams, packages) = mpsc::unbounded_channel();
        let index = Route { party: Party::Index, addresses: index };
        let ends = Ends { letters, streams, held: Arc::clone(&held), root, index: index.clone() };
        runtime.spawn(listen(inbound, net.clone(), ends));
        let unread = VecDeque::new();
        Ok(Self { keys, runtime, net, index, root, held, mail, unread, packages })
    }

    /// Its identifier.
    #[must_use]
    pub const fn id(&self) -> &HospitalId {
        &self.keys.id
    }

    /// The way to the index.
    #[must_use]
    pub fn index(&self) -> Route {
        self.index.clone()
    }

    /// The newest directory that the index has sent.
    ///
    /// # Errors
    /// It has sent none.
    pub fn federation(&self) -> Result<Arc<Federation>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.context("the index has sent no directory")
    }

    /// Gives a rule the directory.
    ///
    /// # Errors
    /// There is none, or what the rule says.
    pub fn judge<T>(&self, rule: impl FnOnce(Context<'_>) -> Result<T, Code>) -> Result<T> {
        let federation = self.federation()?;
        rule(Context { federation: &federation, verifier: &Ed25519 }).map_err(|code| anyhow!("{code}"))
    }

    /// The way to a hospital, whatever its status.
    ///
    /// # Errors
    /// The directory does not have it.
    pub fn route(&self, hospital: &HospitalId) -> Result<Route> {
        let federation = self.federation()?;
        let member = federation.member(hospital).map_err(|code| anyhow!("{hospital}: {code}"))?;
        Ok(Route { party: Party::Hospital(hospital.clone()), addresses: member.profile.addresses.clone() })
    }

    /// Connects, and how the other side takes it.
    ///
    /// # Errors
    /// The code of what failed.
    pub fn connect(&self, to: &Route) -> Result<Presented, Code> {
        self.runtime.block_on(self.net.connect(to)).map_err(|fault| fault.code())
    }

    /// Presents itself again to everybody.
    pub fn renew_hello(&self) {
        self.runtime.block_on(self.net.renew_hello());
    }

    /// Sends any bytes as a request.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn send(&self, to: &Route, body: Vec<u8>) -> Result<Vec<Vec<u8>>, Code> {
        let answer = self.runtime.block_on(self.net.request(to, body)).map_err(|fault| fault.code())?;
        Answer::decode(&answer)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn ask(&self, to: &Route, verb: Verb, items: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Code> {
        self.send(to, Request::encode(verb, items))
    }

    /// Brings an artefact straight to a hospital.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn bring(&self, to: &HospitalId, content: &[u8]) -> Result<(), Code> {
        let route = self.route(to).map_err(|_| Code::UnknownHospital)?;
        self.ask(&route, Verb::Deliver, vec![parcel(None, content)]).map(drop)
    }

    /// Sends an artefact to a hospital by way of the index.
    ///
    /// # Errors
    /// Why the index refused it.
    pub fn post(&self, to: &HospitalId, content: &[u8]) -> Result<(), Code> {
        self.ask(&self.index, Verb::Deliver, vec![parcel(Some(to.clone()), content)]).map(drop)
    }

    /// Asks the index for the directory; it is believed from now on.
    ///
    /// # Errors
    /// It does not come or does not verify.
    pub fn refresh(&self) -> Result<()> {
        let answer = self.ask(&self.index, Verb::Directory, vec![0_u64.to_be_bytes().to_vec()]);
        let items = answer.map_err(|code| anyhow!("the directory: {code}"))?;
        let head = items.first().context("the index sends no directory")?;
        self.runtime.block_on(believe(&self.net, &self.index, (&self.held, &self.root), head))
    }

    /// Waits for an artefact of this kind about which something holds. Others stay for later.
    ///
    /// # Errors
    /// It does not come in time, or cannot be read.
    pub fn letter<T: Payload>(&mut self, wanted: impl Fn(&T) -> bool) -> Result<Signed<T>> {
        let mut seen = VecDeque::new();
        loop {
            let Some(next) = self.unread.pop_front().or_else(|| self.next_letter()) else {
                self.unread = seen;
                return Err(anyhow!("no {} came within {} s", T::TYPE, LIMIT.as_secs()));
            };
            if peek_type(&next).is_ok_and(|label| label == T::TYPE) {
                let signed = Signed::<T>::read(&next)?;
                if wanted(signed.claim()) {
                    seen.append(&mut self.unread);
                    self.unread = seen;
                    return Ok(signed);
                }
            }
            seen.push_back(next);
        }
    }

    /// Waits until a patient's revocation of a transfer has come. Others are for nobody.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn revoked(&mut self, transfer: TransferId) -> Result<()> {
        let is_it = |letter: &Vec<u8>| {
            codec::decode::<Revocation>(letter, MAX_MESSAGE_BYTES).is_ok_and(|it| it.transfer == transfer)
        };
        while !self.unread.iter().any(is_it) {
            let next = self.next_letter().context("no revocation came")?;
            self.unread.push_back(next);
        }
        Ok(())
    }

    fn next_letter(&mut self) -> Option<Vec<u8>> {
        self.runtime.block_on(async { timeout(LIMIT, self.mail.recv()).await }).ok().flatten()
    }

    /// Whether an artefact of this kind about which something holds has come until now.
    #[must_use]
    pub fn has_letter<T: Payload>(&mut self, wanted: impl Fn(&T) -> bool) -> bool {
        while let Ok(next) = self.mail.try_recv() {
            self.unread.push_back(next);
        }
        self.unread.iter().any(|it| Signed::<T>::read(it).is_ok_and(|signed| wanted(signed.claim())))
    }

    /// Sends a request again and again, so many at one time, until it is told to end.
    #[must_use]
    pub fn floods(&self, to: Route, body: Vec<u8>, at_once: usize) -> Flood {
        let answered = Arc::new(AtomicUsize::new(0));
        let (net, count) = (self.net.clone(), Arc::clone(&answered));
        let tasks = self.runtime.spawn(async move {
            let mut asking = JoinSet::new();
            loop {
                while asking.len() < at_once {
                    let (net, to, body) = (net.clone(), to.clone(), body.clone());
                    asking.spawn(async move { net.request(&to, body).await.is_ok() });
                }
                if let Some(Ok(true)) = asking.join_next().await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Flood { answered, tasks }
    }

    /// Opens a package stream.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn open(&self, to: &HospitalId) -> Result<Stream, Code> {
        let route = self.route(to).map_err(|_| Code::UnknownHospital)?;
        let opened = self.runtime.block_on(self.net.open_package(&route));
        Ok(Stream::new(opened.map_err(|fault| fault.code())?, self.runtime.handle()))
    }

    /// Waits for a package stream from somebody.
    ///
    /// # Errors
    /// None comes.
    pub fn opened(&mut self) -> Result<Stream> {
        let next = self.runtime.block_on(async { timeout(LIMIT, self.packages.recv()).await });
        let stream = next.ok().flatten().context("no package stream came")?;
        Ok(Stream::new(stream, self.runtime.handle()))
    }
}

/// Requests that do not end by themselves.
pub struct Flood {
    answered: Arc<AtomicUsize>,
    tasks: JoinHandle<()>,
}

impl Flood {
    /// Ends it; how many were answered.
    #[must_use]
    pub fn end(self) -> usize {
        self.tasks.abort();
        self.answered.load(Ordering::Relaxed)
    }
}

impl Rogue {
    /// A package stream that has come already, if one has.
    pub fn opened_already(&mut self) -> Option<Stream> {
        self.packages.try_recv().ok().map(|stream| Stream::new(stream, self.runtime.handle()))
    }
}

/// Looks until something holds: for what nothing tells of.
///
/// # Errors
/// It does not hold within [`LIMIT`].
pub fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    within(LIMIT, what, holds)
}

/// [`until`] with a limit of its own.
///
/// # Errors
/// It does not hold within `limit`.
pub fn within(limit: Duration, what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// A parcel, encoded.
#[must_use]
pub fn parcel(to: Option<HospitalId>, content: &[u8]) -> Vec<u8> {
    codec::encode(&Parcel { to, content: content.to_vec().into(), extensions: none() })
}

/// Believes a directory, whose pieces the index gives.
async fn believe(net: &Net, index: &Route, (held, root): (&Held, &SigningPublic), head: &[u8]) -> Result<()> {
    let head = Head::verify(head, root, now(), &Ed25519)?;
    let known = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut gathering = Gathering::of(&head, &known.as_ref().map(|it| it.digests()).unwrap_or_default());
    while !gathering.missing().is_empty() {
        let digests = gathering.missing().iter().map(|digest| digest.as_bytes().to_vec()).collect();
        let answer = net.request(index, Request::encode(Verb::DirectoryPieces, digests)).await?;
        let taken = Answer::decode(&answer).and_then(|pieces| gathering.take(pieces));
        taken.map_err(|code| anyhow!("the pieces of the directory: {code}"))?;
    }
    let federation = head.complete(&gathering.pieces(), known.as_deref(), &Ed25519)?;
    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(federation));
    Ok(())
}

/// Where what comes goes.
struct Ends {
    letters: mpsc::UnboundedSender<Vec<u8>>,
    streams: mpsc::UnboundedSender<PackageStream>,
    held: Held,
    root: SigningPublic,
    index: Route,
}

async fn listen(mut inbound: mpsc::Receiver<Inbound>, net: Net, ends: Ends) {
    // When the test is over nobody listens any more: what comes then is let go.
    while let Some(event) = inbound.recv().await {
        match event {
            Inbound::Request { body, reply, .. } => {
                let outcome = take(&ends, &net, &body).await;
                reply.send(Answer::encode(outcome.map(|()| Vec::new())));
                net.recheck().await;
            }
            Inbound::Package { stream, .. } => drop(ends.streams.send(stream)),
            Inbound::Connected(_) | Inbound::Disconnected(_) => {}
        }
    }
}

/// Says yes to everything that can be read.
async fn take(ends: &Ends, net: &Net, body: &[u8]) -> Result<(), Code> {
    let request = Request::decode(body)?;
    for item in request.items {
        if request.verb == Verb::Directory {
            let believed = believe(net, &ends.index, (&ends.held, &ends.root), &item.0);
            believed.await.map_err(|_| Code::Malformed)?;
        } else {
            let parcel: Parcel = codec::decode(&item.0, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
            let _ = ends.letters.send(parcel.content.0);
        }
    }
    Ok(())
}
