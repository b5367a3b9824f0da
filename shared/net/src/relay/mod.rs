//! The relay: carries circuits between members that cannot reach each other directly. It speaks libp2p's circuit relay
//! v2 to libp2p's own clients.
//!
//! libp2p's server counts neither parties nor bytes, asks nobody whether a peer is admitted, and knows no silence; so
//! this one answers in its place.
//!
//! Invariants: only admitted peers reserve, dial and are dialled, and a circuit ends when one of its two ends is not
//! admitted any more. Circuits are bounded for the party that dials, for the party that is dialled, and in all; each by
//! bytes, time and silence. What they carry is sealed between the two ends (their own handshake runs inside of it): the
//! relay sees who, when and how much.
//!
//! It must not know: why somebody is admitted, what a circuit carries.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handover_core::Party;
use libp2p::{Multiaddr, PeerId, Stream};
use libp2p_stream::Control;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};
use tokio_util::sync::CancellationToken;

use crate::client::Visible;
use crate::config::RelayLimits;
use crate::incoming::Streams;
use crate::package::Places;

mod wire;

pub(crate) use wire::HOP;
use wire::{Hop, Limit, Peer, Reservation, STOP, Status, Stop, kind};

/// Until a request is there and answered.
const ASK: Duration = Duration::from_secs(10);
/// Who dials a relay asks at once, before it can have been admitted: so long its request waits for that.
const ADMISSION: Duration = Duration::from_secs(3);
/// Requests that are being answered, in all and of one party; those of peers that are not admitted yet apart.
const ASKING: usize = 256;
const ASKING_PER_PARTY: usize = 32;
const ASKING_STRANGERS: usize = 32;
/// How long a reservation is said to hold; clients renew it after three quarters, by their own clocks.
const RESERVED: Duration = Duration::from_secs(60 * 60);
/// How long it holds, so that a clock that is behind loses nobody their place.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60);
/// Until whoever is to be reached has said yes.
const STOPPING: Duration = Duration::from_secs(4);
/// Carried in one go.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a relay has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Circuits now.
    pub circuits: u64,
    /// Circuits since the start.
    pub opened: u64,
    /// Requests that were refused since the start.
    pub refused: u64,
    /// Peers that have a reservation now.
    pub reservations: u64,
    /// Bytes since the start, both directions together.
    pub bytes: u64,
}

impl Carried {
    /// Each count with its name.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("circuits", self.circuits),
            ("opened", self.opened),
            ("refused", self.refused),
            ("reservations", self.reservations),
            ("bytes", self.bytes),
        ]
    }
}

/// The counters behind [`Carried`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    circuits: AtomicU64,
    opened: AtomicU64,
    refused: AtomicU64,
    reservations: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Carried {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Carried {
            circuits: of(&self.circuits),
            opened: of(&self.opened),
            refused: of(&self.refused),
            reservations: of(&self.reservations),
            bytes: of(&self.bytes),
        }
    }
}

/// One process's relay.
#[derive(Clone)]
pub(crate) struct Relay {
    control: Control,
    visible: watch::Receiver<Visible>,
    limits: RelayLimits,
    counters: Arc<Counters>,
    /// Until when each peer has its place, and whose it is.
    reservations: Arc<Mutex<HashMap<PeerId, (Instant, Party)>>>,
    /// Circuits by who dials and by who is dialled.
    places: Arc<Mutex<(Places, Places)>>,
}

impl Relay {
    pub(crate) fn new(
        control: Control,
        visible: watch::Receiver<Visible>,
        limits: RelayLimits,
        counters: Arc<Counters>,
    ) -> Self {
        let places = (
            Places::new(limits.circuits, limits.circuits_per_source),
            Places::new(limits.circuits, limits.circuits_per_destination),
        );
        Self {
            control,
            visible,
            limits,
            counters,
            reservations: Arc::default(),
            places: Arc::new(Mutex::new(places)),
        }
    }

    /// Answers until the network ends. Does nothing but take and pass on, so that it is always ready for the next one.
    pub(crate) async fn serve(self, mut requests: Streams, ended: CancellationToken) {
        let mut asking = Places::new(ASKING, ASKING_PER_PARTY);
        let strangers = Arc::new(Semaphore::new(ASKING_STRANGERS));
        loop {
            let next = tokio::select! {
                next = requests.recv() => next,
                () = ended.cancelled() => None,
            };
            let Some((peer, stream)) = next else { return };
            let place = match self.party(&peer) {
                Some(party) => asking.take(&party).map(Vec::from),
                None => Arc::clone(&strangers).try_acquire_owned().ok().map(|place| vec![place]),
            };
            let Some(place) = place else {
                self.refuses();
                continue;
            };
            let (relay, ended) = (self.clone(), ended.clone());
            tokio::spawn(async move {
                tokio::select! {
                    outcome = relay.answer(peer, stream.compat(), place) => if let Err(error) = outcome {
                        tracing::debug!(%error, "a relay's request ended");
                    },
                    () = ended.cancelled() => {}
                }
            });
        }
    }

    async fn answer(
        &self,
        peer: PeerId,
        mut stream: Compat<Stream>,
        place: Vec<OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        let ready = async {
            let message: Hop = match wire::read(&mut stream).await {
                Ok(message) => message,
                Err(_) => return self.refuse(&mut stream, Status::MalformedMessage).await,
            };
            let Some(party) = self.admitted(&peer).await else {
                return self.refuse(&mut stream, Status::PermissionDenied).await;
            };
            match (message.kind, message.peer) {
                (kind::HOP_RESERVE, _) => self.reserve((peer, &party), &mut stream).await.map(|()| None),
                (kind::HOP_CONNECT, Some(Peer { id })) => {
                    match self.connect((peer, &party), PeerId::from_bytes(&id).ok(), &mut stream).await {
                        Ok(circuit) => Ok(Some((party, circuit))),
                        Err(status) => self.refuse(&mut stream, status).await,
                    }
                }
                _ => self.refuse(&mut stream, Status::MalformedMessage).await,
            }
        };
        let circuit = timeout(ASK, ready).await??;
        drop(place);
        let Some((party, Circuit { other, stopped, _places })) = circuit else { return Ok(()) };
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        self.counters.circuits.fetch_add(1, Ordering::Relaxed);
        let outcome = tokio::select! {
            outcome = self.carry(stream, stopped) => outcome,
            () = self.left(peer, &party) => Err(io::ErrorKind::PermissionDenied.into()),
            () = self.left(other.0, &other.1) => Err(io::ErrorKind::PermissionDenied.into()),
        };
        self.counters.circuits.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    fn party(&self, peer: &PeerId) -> Option<Party> {
        self.visible.borrow().party_of(peer).cloned()
    }

    /// Who the peer is admitted as, now or in a moment.
    async fn admitted(&self, peer: &PeerId) -> Option<Party> {
        let mut visible = self.visible.clone();
        let admitted = visible.wait_for(|visible| visible.admitted.contains_key(peer));
        let visible = timeout(ADMISSION, admitted).await.ok()?.ok()?;
        visible.party_of(peer).cloned()
    }

    /// Returns once the peer is not admitted as this party any more.
    async fn left(&self, peer: PeerId, party: &Party) {
        let mut visible = self.visible.clone();
        // An end of the channel is an end of the network, too.
        let _ = visible.wait_for(|visible| visible.party_of(&peer) != Some(party)).await;
    }

    fn refuses(&self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn refuse<T>(&self, stream: &mut Compat<Stream>, status: Status) -> io::Result<Option<T>> {
        self.refuses();
        wire::write(stream, &Hop::answer(status)).await?;
        stream.shutdown().await?;
        Ok(None)
    }

    /// Keeps a place for the peer.
    async fn reserve(&self, (peer, party): (PeerId, &Party), stream: &mut Compat<Stream>) -> io::Result<()> {
        let now = Instant::now();
        let until = now.checked_add(KEPT).unwrap_or(now);
        let is_kept = {
            let mut reservations = self.reservations.lock().await;
            reservations.insert(peer, (until, party.clone()));
            // Who is not admitted at the moment keeps it: nobody dials them, and they would not know that it is gone.
            reservations.retain(|_, (until, _)| *until > now);
            let own = reservations.values().filter(|(_, other)| other == party).count();
            let is_kept =
                reservations.len() <= self.limits.reservations && own <= self.limits.reservations_per_party;
            if !is_kept {
                reservations.remove(&peer);
            }
            self.counters
                .reservations
                .store(u64::try_from(reservations.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            is_kept
        };
        if !is_kept {
            return self.refuse::<()>(stream, Status::ReservationRefused).await.map(drop);
        }
        let expire = SystemTime::now() + RESERVED;
        let addresses = self.visible.borrow().addresses.clone();
        let reservation = Reservation {
            expire: expire.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            addrs: addresses
                .iter()
                .filter_map(|it| it.parse::<Multiaddr>().ok())
                .map(|it| it.to_vec())
                .collect(),
        };
        let limit = Some(self.limit());
        wire::write(stream, &Hop { reservation: Some(reservation), limit, ..Hop::answer(Status::Ok) })
            .await?;
        stream.shutdown().await
    }

    /// Opens the second half of a circuit, and tells the first.
    async fn connect(
        &self,
        (from, source): (PeerId, &Party),
        to: Option<PeerId>,
        stream: &mut Compat<Stream>,
    ) -> Result<Circuit, Status> {
        let to = to.ok_or(Status::MalformedMessage)?;
        let has_place =
            self.reservations.lock().await.get(&to).is_some_and(|(until, _)| *until > Instant::now());
        let destination = self.party(&to).filter(|_| has_place).ok_or(Status::NoReservation)?;
        let places = {
            let (sources, destinations) = &mut *self.places.lock().await;
            sources.take(source).zip(destinations.take(&destination)).ok_or(Status::ResourceLimitExceeded)?
        };
        let stopped = timeout(STOPPING, self.stop(from, to)).await.unwrap_or_else(|late| Err(late.into()));
        let stopped = stopped.map_err(|error| {
            tracing::debug!(%error, "the other end of a circuit does not answer");
            Status::ConnectionFailed
        })?;
        let told = wire::write(stream, &Hop { limit: Some(self.limit()), ..Hop::answer(Status::Ok) }).await;
        told.map_err(|_| Status::ConnectionFailed)?;
        Ok(Circuit { other: (to, destination), stopped, _places: places })
    }

    /// Asks whoever is to be reached.
    async fn stop(&self, from: PeerId, to: PeerId) -> io::Result<Compat<Stream>> {
        let stopped = self.control.clone().open_stream(to, STOP).await.map_err(io::Error::other)?;
        let mut stopped = stopped.compat();
        let peer = Some(Peer::of(from));
        wire::write(
            &mut stopped,
            &Stop { kind: kind::STOP_CONNECT, peer, limit: Some(self.limit()), status: None },
        )
        .await?;
        let answer: Stop = wire::read(&mut stopped).await?;
        if answer.kind != kind::STOP_STATUS || answer.status != Some(Status::Ok as i32) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(stopped)
    }

    fn limit(&self) -> Limit {
        let seconds = u32::try_from(self.limits.circuit_ms / 1_000).unwrap_or(u32::MAX);
        Limit { duration: Some(seconds), data: Some(self.limits.circuit_bytes) }
    }

    /// Carries both directions until both are over, or a limit is reached.
    async fn carry(&self, one: Compat<Stream>, other: Compat<Stream>) -> io::Result<()> {
        let left = AtomicU64::new(self.limits.circuit_bytes);
        let ((from_one, to_one), (from_other, to_other)) = (tokio::io::split(one), tokio::io::split(other));
        let both = async {
            tokio::try_join!(self.pump(from_one, to_other, &left), self.pump(from_other, to_one, &left))
        };
        timeout(Duration::from_millis(self.limits.circuit_ms), both).await??;
        Ok(())
    }

    async fn pump(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        left: &AtomicU64,
    ) -> io::Result<()> {
        // Whoever is alive answers pings in either direction.
        let silence = Duration::from_millis(self.limits.silence_ms);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = timeout(silence, from.read(&mut chunk)).await??;
            let bytes = chunk.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return timeout(silence, to.shutdown()).await?;
            }
            let count = u64::try_from(read).unwrap_or(u64::MAX);
            let taken =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count));
            if taken.is_err() {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let written = async {
                to.write_all(bytes).await?;
                to.flush().await
            };
            timeout(silence, written).await??;
            self.counters.bytes.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// A circuit that can be carried.
struct Circuit {
    /// Who is at the other end.
    other: (PeerId, Party),
    stopped: Compat<Stream>,
    _places: ([OwnedSemaphorePermit; 2], [OwnedSemaphorePermit; 2]),
}
