//! Package streams. An acceptor that has no room for a stream drops it without a word, so one counts as open only when
//! the acceptor has said so with one byte; the opener waits for the byte, tries again with growing pauses, and opens its
//! streams to one peer one after another: an acceptor of before has room for one at a moment.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use handover_core::Party;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{Control, OpenStreamError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};
use tokio_util::sync::CancellationToken;

use crate::NetError;
use crate::client::Visible;
use crate::handle::Inbound;
use crate::incoming::Streams;
use crate::until::Until;

/// The package protocol's name.
pub(crate) const PACKAGE: StreamProtocol = StreamProtocol::new("/handover/package/1");
/// What the acceptor writes first.
const ACCEPTED: u8 = 1;
/// How long one attempt waits for the accept byte, and the acceptor for room to write it.
const ACCEPT_MS: u64 = 5_000;
/// The pause after the first refused attempt; doubles up to [`LAST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 10;
const LAST_PAUSE_MS: u64 = 500;

/// An accepted byte stream with a peer, in both directions. Shut it down when done: a stream that is dropped
/// before is reset, and the other side may not get what was written last.
pub struct PackageStream {
    inner: Box<dyn Duplex>,
    /// An inbound stream's places: among those that the application may hold, and among its party's.
    _places: Option<[OwnedSemaphorePermit; 2]>,
}

/// Bytes in both directions.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl PackageStream {
    /// Over any bytes in both directions, for another network than the swarm.
    #[must_use]
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { inner: Box::new(stream), _places: None }
    }

    /// The stream, for another thread; until it is put back, one that has ended stands in its place.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::over(tokio::io::join(tokio::io::empty(), tokio::io::sink())))
    }
}

impl std::fmt::Debug for PackageStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackageStream").finish_non_exhaustive()
    }
}

impl AsyncRead for PackageStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, to)
    }
}

impl AsyncWrite for PackageStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Opens streams.
#[derive(Clone)]
pub(crate) struct Opener {
    control: Control,
    /// One at a time for each peer. Guards no state, only the order.
    turns: Arc<Mutex<HashMap<PeerId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Opener {
    pub(crate) fn new(control: Control) -> Self {
        Self { control, turns: Arc::default() }
    }

    pub(crate) async fn open(
        &self,
        peer: PeerId,
        party: &Party,
        visible: &watch::Receiver<Visible>,
        limit_ms: u64,
    ) -> Result<PackageStream, NetError> {
        let attempts = async {
            let turn = self.turn(peer);
            let _turn = turn.lock().await;
            let mut pause_ms = FIRST_PAUSE_MS;
            loop {
                // A peer that was expelled or lost meanwhile must not be dialled again from here.
                let Some(ended) = visible.borrow().streams_of(&peer, party) else {
                    return Err(NetError::Unreachable);
                };
                let attempt = timeout(Duration::from_millis(ACCEPT_MS), self.attempt(peer)).await;
                match attempt {
                    // One of its connections was closed meanwhile; it may have been this one.
                    Ok(Ok(_)) if ended.is_cancelled() => continue,
                    Ok(Ok(stream)) => return Ok(PackageStream::over(Until::new(stream, &ended))),
                    Ok(Err(OpenStreamError::UnsupportedProtocol(_))) => return Err(NetError::Protocol),
                    Ok(Err(_)) | Err(_) => {}
                }
                tracing::debug!(pause_ms, "package stream not accepted, trying again");
                sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = pause_ms.saturating_mul(2).min(LAST_PAUSE_MS);
            }
        };
        timeout(Duration::from_millis(limit_ms), attempts).await.unwrap_or(Err(NetError::Busy))
    }

    async fn attempt(&self, peer: PeerId) -> Result<Compat<libp2p::Stream>, OpenStreamError> {
        let stream = self.control.clone().open_stream(peer, PACKAGE).await?;
        let mut inner = stream.compat();
        if inner.read_u8().await? != ACCEPTED {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        Ok(inner)
    }

    fn turn(&self, peer: PeerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(peer).or_default().clone()
    }
}

/// Places, in all and for each party.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    per_party: usize,
    /// Those of parties that have taken some now.
    of_party: HashMap<Party, Arc<Semaphore>>,
}

impl Places {
    pub(crate) fn new(all: usize, per_party: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_party, of_party: HashMap::new() }
    }

    pub(crate) fn take(&mut self, party: &Party) -> Option<[OwnedSemaphorePermit; 2]> {
        let per_party = self.per_party;
        self.of_party.retain(|_, own| own.available_permits() < per_party);
        let own = self.of_party.entry(party.clone()).or_insert_with(|| Arc::new(Semaphore::new(per_party)));
        let own = Arc::clone(own).try_acquire_owned().ok()?;
        Some([Arc::clone(&self.all).try_acquire_owned().ok()?, own])
    }
}

/// Accepts streams until the network ends. Does nothing but take and pass on, so that it is always ready for the
/// next one.
pub(crate) async fn accept(
    mut incoming: Streams,
    visible: watch::Receiver<Visible>,
    inbound: mpsc::Sender<Inbound>,
    mut places: Places,
    ended: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            next = incoming.recv() => next,
            () = ended.cancelled() => None,
        };
        let Some((peer, stream)) = next else { return };
        let Some(party) = visible.borrow().party_of(&peer).cloned() else {
            tracing::debug!("package stream from a peer that is not admitted");
            continue;
        };
        let Some(places) = places.take(&party) else { continue };
        let Ok(slot) = inbound.clone().try_reserve_owned() else { continue };
        let Some(ended) = visible.borrow().streams_of(&peer, &party) else { continue };
        tokio::spawn(async move {
            let mut inner = stream.compat();
            let confirm = async {
                inner.write_u8(ACCEPTED).await?;
                inner.flush().await
            };
            let is_confirmed = timeout(Duration::from_millis(ACCEPT_MS), confirm).await;
            // The connection may have been closed meanwhile.
            if !ended.is_cancelled() && matches!(is_confirmed, Ok(Ok(()))) {
                slot.send(Inbound::Package {
                    party,
                    stream: PackageStream {
                        inner: Box::new(Until::new(inner, &ended)),
                        _places: Some(places),
                    },
                });
            }
        });
    }
}
