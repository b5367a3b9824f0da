//! The directory that this node holds: verified, durable, never rolled back.
//!
//! Invariants: what is held only grows ([`Federation::succeeds`]); of two directories with one version neither carries
//! new work, over restarts too, until a higher one comes; what proves that the index lied is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_core::artefact::federation::Directory;
use handover_core::artefact::{ArtefactError, Signed};
use handover_core::id::SigningPublic;
use handover_core::time::Clock;
use handover_core::trust::{self, Federation, Gathering, Head};
use handover_core::{Code, Party, Timestamp, codec};
use handover_dossier::directories;
use handover_net::Admission;
use handover_seal::Remembered;
use handover_store::{KeyMaker, Store, Txn};
use tokio::sync::{MutexGuard, watch};
use tokio::time::timeout;

use handover_dossier::incidents::Incident;

use crate::ExchangeError;

use self::disputes::Dispute;

mod disputes;

/// How long a directory waits for the one that is gathered before it.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// How long the pieces of one may take to come, in all; the next try goes on from there.
const GATHER_LIMIT: Duration = Duration::from_secs(120);

/// What is held; nothing before the first one came.
type Held = Option<Arc<Federation>>;

/// The held directory, shared by everyone who checks something.
#[derive(Clone)]
pub struct Directories {
    root: SigningPublic,
    store: Store,
    clock: Arc<dyn Clock>,
    held: watch::Sender<Held>,
    /// What was offered last that contradicts the one held, and its version.
    dispute: Arc<Mutex<Option<(Code, u64)>>>,
    refused: Arc<AtomicU64>,
    /// What came of a directory that is not whole yet; one at a time is gathered.
    gathering: Arc<tokio::sync::Mutex<Gathering>>,
}

impl Directories {
    /// Opens what was held before, verified again under the pinned root.
    ///
    /// # Errors
    /// The store's; a held directory that does not verify any more is an integrity fault.
    pub async fn open(
        root: SigningPublic,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ExchangeError> {
        let keys = store.keys();
        let (kept, dispute) = store
            .read(move |txn| -> Result<_, ExchangeError> {
                Ok((stored(txn, &keys, &root, None)?, disputes::kept(txn, &keys)?))
            })
            .await?;
        let held = kept.map(|kept| {
            let version = kept.directory().version;
            let is_forked = dispute.as_ref().is_some_and(|dispute| dispute.is_fork_of(version));
            Arc::new(if is_forked { kept.forked() } else { kept })
        });
        let dispute = dispute.map(|dispute| (dispute.code, dispute.version));
        Ok(Self {
            root,
            store,
            clock,
            held: watch::channel(held).0,
            dispute: Arc::new(Mutex::new(dispute)),
            refused: Arc::default(),
            gathering: Arc::default(),
        })
    }

    /// What the index signed that contradicts what was held then, if it did; the directory offered and the one held, each
    /// with the piece of which something is taken back, if it is of one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn proof(&self) -> Result<Option<(Incident, Vec<u8>, Vec<u8>)>, ExchangeError> {
        let keys = self.store.keys();
        let kept = self.store.read(move |txn| disputes::kept(txn, &keys)).await?;
        let shown = |dispute: Dispute| {
            (dispute.incident(), codec::encode(&dispute.offered), codec::encode(&dispute.held))
        };
        Ok(kept.map(shown))
    }

    /// The directory held now.
    ///
    /// # Errors
    /// [`Code::DirectoryExpired`] before the first one came.
    pub fn held(&self) -> Result<Arc<Federation>, Code> {
        self.held.borrow().clone().ok_or(Code::DirectoryExpired)
    }

    /// The version held; 0 before the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.held.borrow().as_ref().map_or(0, |held| held.directory().version)
    }

    /// Waits for changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Federation>>> {
        self.held.subscribe()
    }

    /// Whether new work may stand on what is held, and nothing newer was offered that takes something back.
    ///
    /// # Errors
    /// [`Code::DirectoryExpired`], [`Code::DirectoryForked`], [`Code::DirectoryTakesBack`], [`Code::NewerEdition`].
    pub fn check(&self, now: Timestamp) -> Result<(), Code> {
        self.held()?.check_fresh(now)?;
        let dispute = *self.dispute.lock().unwrap_or_else(PoisonError::into_inner);
        match dispute {
            Some((code, version)) if version >= self.version() => Err(code),
            _ => Ok(()),
        }
    }

    /// Directories that were refused since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a newer directory, durably: its head, and those of its pieces that are not held, which `ask` gets from who has
    /// them. The one already held again changes nothing. What contradicts the one held is kept as proof; of two with one
    /// version neither is worked on until a higher one comes.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`] for an older one, [`Code::DirectoryForked`] for another of the same version,
    /// [`Code::DirectoryTakesBack`], [`Code::DirectoryExpired`] for one that has expired while the one held has not,
    /// [`Code::DirectoryIncomplete`] or [`Code::TimedOut`] if a piece does not come: what came is not asked for again;
    /// [`Code::Busy`] while another is gathered; and why one does not verify.
    pub async fn take<A, F>(&self, envelope: Vec<u8>, ask: A) -> Result<(), ExchangeError>
    where
        A: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<Vec<Vec<u8>>, ExchangeError>>,
    {
        let mut taken = self.follows(&envelope).await;
        if matches!(taken, Ok(Some(_))) {
            // One at a time, and nobody waits for long: pushes come again, and a newer one may be behind this one.
            let gathering = timeout(TURN_LIMIT, self.gathering.lock()).await.map_err(|_| Code::Busy)?;
            taken = self.gather(&envelope, gathering, ask).await?;
        }
        let taken = taken.map(drop);
        if let Err(fault) = &taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let claim = Signed::<Directory>::read(&envelope).ok();
            let offered = claim.as_ref().map(|it| it.claim().version);
            let signer = claim.as_ref().map(|it| *it.kid());
            let (code, held) = (fault.code(), self.version());
            // Until this program is replaced it reads nothing of what comes.
            if code == Code::NewerEdition {
                self.disputed(code, offered.unwrap_or(u64::MAX));
            }
            // An older one may only be late.
            if code == Code::DirectoryRollback {
                tracing::info!(held, ?offered, "an older directory was refused");
            } else {
                tracing::warn!(code = %code, held, ?offered, ?signer, "a directory of the index was refused");
            }
        }
        taken
    }

    /// Has the pieces come that are missing, and takes the directory; nothing, once that is done. What does not come is
    /// nothing against it; but what was taken meanwhile may contradict it.
    async fn gather<A, F>(
        &self,
        envelope: &[u8],
        mut gathering: MutexGuard<'_, Gathering>,
        ask: A,
    ) -> Result<Result<Option<(Head, Held)>, ExchangeError>, ExchangeError>
    where
        A: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<Vec<Vec<u8>>, ExchangeError>>,
    {
        let (head, held) = match self.follows(envelope).await {
            Ok(Some(follows)) => follows,
            other => return Ok(other),
        };
        gathering.turn_to(&head, &held.as_deref().map(Federation::digests).unwrap_or_default());
        let came = timeout(GATHER_LIMIT, fill(&mut gathering, ask)).await;
        if let Err(fault) = came.unwrap_or_else(|_| Err(Code::TimedOut.into())) {
            return match self.follows(envelope).await {
                Err(contradicted) => Ok(Err(contradicted)),
                Ok(_) => Err(fault),
            };
        }
        let taken = self.complete(head, &std::mem::take(&mut *gathering).pieces(), held).await;
        Ok(taken.map(|()| None))
    }

    /// A head that may take the place of the one held, and what is held; none if it is that one.
    async fn follows(&self, envelope: &[u8]) -> Result<Option<(Head, Held)>, ExchangeError> {
        let now = self.clock.now();
        let head = Head::verify(envelope, &self.root, now, &Remembered).map_err(|fault| fault.code())?;
        let held = self.held.borrow().clone();
        match held.as_ref().map_or(Ok(true), |held| head.follows(held.head())) {
            Ok(follows) => Ok(follows.then_some((head, held))),
            Err(code) => {
                // Two heads of one version are the whole proof.
                if let Some(held) = held.filter(|_| code == Code::DirectoryForked) {
                    let (keys, version) = (self.store.keys(), held.directory().version);
                    let dispute = Dispute::of_heads(&held, head.directory(), now);
                    let keep = move |txn: &mut dyn Txn| disputes::keep(txn, &keys, version, &dispute);
                    self.store.write(keep).await?;
                    self.disputed(code, version);
                }
                Err(code.into())
            }
        }
    }

    async fn complete(&self, head: Head, pieces: &[Vec<u8>], held: Held) -> Result<(), ExchangeError> {
        let fresh = head.complete(pieces, held.as_deref(), &Remembered).map_err(|fault| fault.code())?;
        self.replace(fresh, held, self.clock.now()).await
    }

    /// Compares with what is stored, in the transaction that replaces it: two that arrive at once keep their order.
    async fn replace(&self, fresh: Federation, held: Held, now: Timestamp) -> Result<(), ExchangeError> {
        let (keys, root, offered) = (self.store.keys(), self.root, fresh.clone());
        let verdict = self
            .store
            .write(move |txn| -> Result<Verdict, ExchangeError> {
                let Some(stored) = stored(txn, &keys, &root, held.as_deref())? else {
                    directories::keep(txn, &keys, &offered)?;
                    return Ok(Verdict::Taken);
                };
                match offered.succeeds(&stored, now) {
                    Ok(true) => {
                        directories::keep(txn, &keys, &offered)?;
                        Ok(Verdict::Taken)
                    }
                    Ok(false) => Ok(Verdict::Held),
                    // Late, or of no use: no proof of a lie.
                    Err(code @ (Code::DirectoryRollback | Code::DirectoryExpired)) => {
                        Ok(Verdict::Refused(code))
                    }
                    Err(code) => {
                        let dispute = Dispute::of(code, &stored, &offered, now);
                        disputes::keep(txn, &keys, stored.directory().version, &dispute)?;
                        Ok(Verdict::Refused(code))
                    }
                }
            })
            .await?;
        let version = fresh.directory().version;
        match verdict {
            // What is stored already may not be followed yet: whoever stored it may have been stopped in between.
            Verdict::Held | Verdict::Taken => {
                tracing::info!(version, "directory taken");
                self.held.send_if_modified(|held| {
                    let is_newer = held.as_ref().is_none_or(|held| held.directory().version < version);
                    if is_newer {
                        *held = Some(Arc::new(fresh));
                    }
                    is_newer
                });
                Ok(())
            }
            Verdict::Refused(code) => {
                self.disputed(code, version);
                Err(code.into())
            }
        }
    }

    /// Lets everybody see what was offered beside the held one.
    fn disputed(&self, code: Code, version: u64) {
        if matches!(code, Code::DirectoryRollback | Code::DirectoryExpired) {
            return;
        }
        *self.dispute.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, version));
        if code == Code::DirectoryForked {
            self.held.send_if_modified(|held| {
                let same = held.as_ref().filter(|held| held.directory().version == version);
                let Some(forked) = same.map(|held| Arc::new(held.forked())) else { return false };
                *held = Some(forked);
                true
            });
        }
    }
}

/// What becomes of an offered directory.
enum Verdict {
    Held,
    Taken,
    Refused(Code),
}

/// Asks for what is missing until nothing is.
async fn fill<A, F>(gathering: &mut Gathering, ask: A) -> Result<(), ExchangeError>
where
    A: Fn(Vec<Vec<u8>>) -> F,
    F: Future<Output = Result<Vec<Vec<u8>>, ExchangeError>>,
{
    loop {
        let missing = gathering.missing();
        if missing.is_empty() {
            return Ok(());
        }
        gathering.take(ask(missing.iter().map(|digest| digest.as_bytes().to_vec()).collect()).await?)?;
    }
}

/// The stored directory: it verified when it came, so certificates are judged at its own time. Whether it is still
/// fresh, each use asks. What stands in `known`, too, is not verified again.
fn stored(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    root: &SigningPublic,
    known: Option<&Federation>,
) -> Result<Option<Federation>, ExchangeError> {
    let Some(envelope) = directories::head(txn, keys)? else { return Ok(None) };
    if let Some(known) = known.filter(|known| known.directory().envelope() == envelope) {
        return Ok(Some(known.clone()));
    }
    let issued = match Signed::<Directory>::read(&envelope) {
        Ok(directory) => directory.claim().issued,
        // A later version of this program has served the store.
        Err(fault @ ArtefactError::NewerEdition(_)) => return Err(fault.code().into()),
        Err(_) => return Err(Code::StoreDamaged.into()),
    };
    let head = Head::verify(&envelope, root, issued, &Remembered).map_err(|fault| fault.code())?;
    let pieces = directories::pieces(txn, keys, &head.directory().pieces)?;
    Ok(Some(head.complete(&pieces, known, &Remembered).map_err(|fault| fault.code())?))
}

/// Admission of peers by the directory that is held at that moment.
pub struct NodeAdmission {
    directories: Directories,
    hello: Vec<u8>,
}

impl NodeAdmission {
    /// Presents `hello`, the encoded [`trust::Hello`] with this process's endpoint certificate.
    #[must_use]
    pub fn new(directories: Directories, hello: Vec<u8>) -> Self {
        Self { directories, hello }
    }
}

impl Admission for NodeAdmission {
    fn hello(&self) -> Vec<u8> {
        self.hello.clone()
    }

    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        let held = self.directories.held.borrow().clone();
        let now = self.directories.clock.now();
        trust::admit(hello, peer, &self.directories.root, held.as_deref(), now, &Remembered)
    }
}
