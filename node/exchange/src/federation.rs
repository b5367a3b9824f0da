//! The directory that this node holds: verified, durable, never rolled back.
//!
//! Invariants: what is held only grows ([`Federation::succeeds`]); of two directories with one version neither carries
//! new work, over restarts too, until a higher one comes; what proves that the index lied is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::artefact::federation::Directory;
use handover_core::artefact::{ArtefactError, Signed};
use handover_core::id::SigningPublic;
use handover_core::time::Clock;
use handover_core::trust::{self, Federation};
use handover_core::{Code, Party, Timestamp};
use handover_net::Admission;
use handover_seal::Ed25519;
use handover_store::{Store, rows};
use tokio::sync::watch;

use handover_dossier::incidents::Incident;

use crate::ExchangeError;

mod disputes;

/// The held directory, shared by everyone who checks something.
#[derive(Clone)]
pub struct Directories {
    root: SigningPublic,
    store: Store,
    clock: Arc<dyn Clock>,
    held: watch::Sender<Option<Arc<Federation>>>,
    /// What was offered last that contradicts the one held, and its version.
    dispute: Arc<Mutex<Option<(Code, u64)>>>,
    refused: Arc<AtomicU64>,
}

const DIRECTORY: &str = "directory";

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
                Ok((rows::get_pieces(txn, &keys.space(DIRECTORY))?, disputes::kept(txn, &keys)?))
            })
            .await?;
        let mut held = None;
        if let Some(envelope) = kept {
            let issued = as_issued(&envelope, &root)?;
            let version = issued.directory().version;
            let is_forked = dispute.as_ref().is_some_and(|dispute| dispute.is_fork_of(version));
            held = Some(Arc::new(if is_forked { issued.forked() } else { issued }));
        }
        let dispute = dispute.map(|dispute| (dispute.code, dispute.version));
        Ok(Self {
            root,
            store,
            clock,
            held: watch::channel(held).0,
            dispute: Arc::new(Mutex::new(dispute)),
            refused: Arc::default(),
        })
    }

    /// What the index signed that contradicts what was held then, if it did; the directory offered and the one held.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn proof(&self) -> Result<Option<(Incident, Vec<u8>, Vec<u8>)>, ExchangeError> {
        let keys = self.store.keys();
        let kept = self.store.read(move |txn| disputes::kept(txn, &keys)).await?;
        Ok(kept.map(|dispute| (dispute.incident(), dispute.offered.0, dispute.held.0)))
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

    /// Takes a newer directory, durably. The one already held again changes nothing. What contradicts the one held is
    /// kept as proof; of two with one version neither is worked on until a higher one comes.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`] for an older one, [`Code::DirectoryForked`] for another of the same version,
    /// [`Code::DirectoryTakesBack`], [`Code::DirectoryExpired`] for one that has expired while the one held has not,
    /// and why one does not verify.
    pub async fn take(&self, envelope: Vec<u8>) -> Result<(), ExchangeError> {
        let taken = self.judge(&envelope).await;
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

    async fn judge(&self, envelope: &[u8]) -> Result<(), ExchangeError> {
        let now = self.clock.now();
        let fresh = Federation::verify(envelope, &self.root, now, &Ed25519).map_err(|fault| fault.code())?;
        let fresh = Arc::new(fresh);
        let (keys, root, offered) = (self.store.keys(), self.root, Arc::clone(&fresh));
        // Compared with what is stored, in the transaction that replaces it: two that arrive at once keep their order.
        let verdict = self
            .store
            .write(move |txn| -> Result<Verdict, ExchangeError> {
                let place = keys.space(DIRECTORY);
                if let Some(stored) = rows::get_pieces(txn, &place)? {
                    let stored = as_issued(&stored, &root)?;
                    match offered.succeeds(&stored, now) {
                        Ok(true) => {}
                        Ok(false) => return Ok(Verdict::Held),
                        // Late, or of no use: no proof of a lie.
                        Err(code @ (Code::DirectoryRollback | Code::DirectoryExpired)) => {
                            return Ok(Verdict::Refused(code));
                        }
                        Err(code) => {
                            let (held, offered) = (stored.directory(), offered.directory());
                            disputes::keep(txn, &keys, code, held, offered, now)?;
                            return Ok(Verdict::Refused(code));
                        }
                    }
                }
                rows::put_pieces(txn, &place, offered.directory().envelope())?;
                Ok(Verdict::Taken)
            })
            .await?;
        let version = fresh.directory().version;
        match verdict {
            Verdict::Held => Ok(()),
            Verdict::Taken => {
                tracing::info!(version, "directory taken");
                self.held.send_if_modified(|held| {
                    let is_newer = held.as_ref().is_none_or(|held| held.directory().version < version);
                    if is_newer {
                        *held = Some(Arc::clone(&fresh));
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

/// A stored directory: it verified when it came, so certificates are judged at its own time. Whether it is still
/// fresh, each use asks.
fn as_issued(envelope: &[u8], root: &SigningPublic) -> Result<Federation, Code> {
    let issued = match Signed::<Directory>::read(envelope) {
        Ok(directory) => directory.claim().issued,
        // A later version of this program has served the store.
        Err(fault @ ArtefactError::NewerEdition(_)) => return Err(fault.code()),
        Err(_) => return Err(Code::StoreDamaged),
    };
    Federation::verify(envelope, root, issued, &Ed25519).map_err(|fault| fault.code())
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
        trust::admit(hello, peer, &self.directories.root, held.as_deref(), now, &Ed25519)
    }
}
