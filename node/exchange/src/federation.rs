//! The directory that this node holds: verified, durable, never rolled back.

use std::sync::Arc;

use handover_core::artefact::Signed;
use handover_core::artefact::federation::Directory;
use handover_core::id::SigningPublic;
use handover_core::time::Clock;
use handover_core::trust::{self, Federation};
use handover_core::{Code, Party};
use handover_net::Admission;
use handover_seal::Ed25519;
use handover_store::{Store, rows};
use tokio::sync::watch;

use crate::ExchangeError;

/// The held directory, shared by everyone who checks something.
#[derive(Clone)]
pub struct Directories {
    root: SigningPublic,
    store: Store,
    clock: Arc<dyn Clock>,
    held: watch::Sender<Option<Arc<Federation>>>,
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
        let kept = store.read(move |txn| rows::get_pieces(txn, &keys.space(DIRECTORY))).await?;
        let held = match kept {
            None => None,
            Some(envelope) => Some(Arc::new(as_issued(&envelope, &root)?)),
        };
        Ok(Self { root, store, clock, held: watch::channel(held).0 })
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

    /// Takes a newer directory, durably. The one already held again changes nothing.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`] for an older one, [`Code::Conflict`] for another of the same version, and why
    /// one does not verify.
    pub async fn take(&self, envelope: Vec<u8>) -> Result<(), ExchangeError> {
        let fresh = Federation::verify(&envelope, &self.root, self.clock.now(), &Ed25519)
            .map_err(|fault| fault.code())?;
        let fresh = Arc::new(fresh);
        let (keys, root, offered) = (self.store.keys(), self.root, Arc::clone(&fresh));
        // Compared with what is stored, in the transaction that replaces it: two that arrive at once keep their order.
        let is_newer = self
            .store
            .write(move |txn| -> Result<bool, ExchangeError> {
                let place = keys.space(DIRECTORY);
                if let Some(stored) = rows::get_pieces(txn, &place)? {
                    let stored = as_issued(&stored, &root)?;
                    if !succeeds(&offered, &stored)? {
                        return Ok(false);
                    }
                }
                rows::put_pieces(txn, &place, offered.directory().envelope())?;
                Ok(true)
            })
            .await?;
        if is_newer {
            tracing::info!(version = fresh.directory().version, "directory taken");
            self.held.send_if_modified(|held| {
                let is_newer =
                    held.as_ref().is_none_or(|held| held.directory().version < fresh.directory().version);
                if is_newer {
                    *held = Some(Arc::clone(&fresh));
                }
                is_newer
            });
        }
        Ok(())
    }
}

/// A stored directory: it verified when it came, so certificates are judged at its own time. Whether it is still
/// fresh, each use asks.
fn as_issued(envelope: &[u8], root: &SigningPublic) -> Result<Federation, Code> {
    let issued = Signed::<Directory>::read(envelope).map_err(|_| Code::StoreDamaged)?.claim().issued;
    Federation::verify(envelope, root, issued, &Ed25519).map_err(|fault| fault.code())
}

/// Whether `offered` follows `held`; not if it is the same.
///
/// A directory is never older than the one held, never leaves a hospital out, and never lowers the number of a status
/// order or fee schedule: an index that was broken into cannot un-revoke by forgetting first.
fn succeeds(offered: &Federation, held: &Federation) -> Result<bool, Code> {
    let (new, old) = (offered.directory(), held.directory());
    if new.version == old.version {
        return if new.hash() == old.hash() { Ok(false) } else { Err(Code::Conflict) };
    }
    let keeps_hospitals = held.members().all(|member| {
        offered.member(&member.certificate.hospital).is_ok_and(|now| now.order.number >= member.order.number)
    });
    let keeps_schedules = held.schedules().iter().all(|schedule| {
        offered
            .schedules()
            .iter()
            .any(|now| now.jurisdiction == schedule.jurisdiction && now.number >= schedule.number)
    });
    if new.version > old.version && keeps_hospitals && keeps_schedules {
        Ok(true)
    } else {
        Err(Code::DirectoryRollback)
    }
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
