//! Folders: sealed packages that wait for a hospital that is away, each with its source's `KeyRelease`. The index stands
//! in for the source: it offers the package once the hospital is there, and hands the release out against `Delivered`.
//!
//! Invariants:
//! - A package is taken from its own source only, once its header stands on a consent that verifies, within what the
//!   destination's folder and the source's share of it hold; and acknowledged when all of it is durable.
//! - A release leaves only in the transaction that finds `Delivered` here, no revocation, both hospitals active, the
//!   consent in time and nothing withdrawn. What was withdrawn before never leaves.
//! - What becomes of a package is derived from what is stored, so a process killed anywhere goes on; a blob goes when
//!   no package names it any more.
//!
//! Nothing here can open what it keeps: one share is sealed to the destination's RSA key, the other to the patient's.

mod deposit;
mod instruments;
mod rows;
mod serve;
mod standing;
mod withdraw;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use handover_core::{Code, ContentRoot, HospitalId, TransferId};
use handover_dossier::DossierError;
use handover_net::NetError;
use handover_parcel::{ParcelError, Places};
use handover_store::{Blobs, StoreError, own_folder};
use tokio::sync::mpsc;

pub(crate) use self::instruments::Instruments;
pub(crate) use self::rows::{Left, all};
pub(crate) use self::serve::run;
use crate::config::FolderRules;
use crate::desk::Desk;
use crate::routing::{Courier, RoutingError};

/// Where packages on their way in lie, in the data folder.
const INCOMING_FOLDER: &str = "incoming";
/// Where they lie when they are whole.
pub(crate) const BLOBS_FOLDER: &str = "blobs";
/// Folders that may be rung for at once; who is not heard is looked at in the next round.
const CALLS: usize = 1_024;

/// Why a package is not kept, offered or handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// A rule says no.
    #[error("{0}")]
    Refused(Code),
    /// What it stands on does not verify.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream failed.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file of this side failed.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

impl From<Code> for FolderError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl From<DossierError> for FolderError {
    fn from(fault: DossierError) -> Self {
        Self::Routing(fault.into())
    }
}

impl FolderError {
    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::Routing(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
            Self::Parcel(fault) => fault.code(),
            Self::Net(fault) => fault.code(),
            Self::Disk(_) => Code::StoreUnavailable,
        }
    }
}

/// The folders of a running index. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Folders(Arc<Inner>);

struct Inner {
    desk: Desk,
    courier: Courier,
    rules: FolderRules,
    instruments: Instruments,
    blobs: Blobs,
    incoming: PathBuf,
    receiving: Places,
    /// Transfers whose package is arriving at this moment.
    arriving: Mutex<BTreeSet<TransferId>>,
    /// Held while blobs are named or deleted, so that none is deleted that was named a moment ago.
    names: tokio::sync::Mutex<()>,
    /// Whether nothing lies there that no row names, as far as is known.
    is_swept: AtomicBool,
    calls: mpsc::Sender<Call>,
}

/// Why a folder is looked at.
#[derive(Debug)]
pub(crate) enum Call {
    /// The hospital connected: what it did not take before is tried at once.
    Connected(HospitalId),
    /// Something may have changed for what lies there.
    Changed(HospitalId),
}

impl Folders {
    /// Opens the folders; the second half is for [`run`].
    pub(crate) fn open(
        desk: Desk,
        courier: Courier,
        rules: FolderRules,
        (shared, blobs): (&Path, Blobs),
        instruments: Instruments,
    ) -> Result<(Self, mpsc::Receiver<Call>), StoreError> {
        let (calls, queue) = mpsc::channel(CALLS);
        let inner = Inner {
            desk,
            courier,
            rules,
            instruments,
            blobs,
            incoming: own_folder(&shared.join(INCOMING_FOLDER))?,
            receiving: Places::to_receive(),
            arriving: Mutex::default(),
            names: tokio::sync::Mutex::default(),
            is_swept: AtomicBool::new(false),
            calls,
        };
        Ok((Self(Arc::new(inner)), queue))
    }

    /// This hospital is connected.
    pub(crate) fn connected(&self, hospital: HospitalId) {
        // If nobody hears it now, the next round looks at every folder.
        let _ = self.0.calls.try_send(Call::Connected(hospital));
    }

    /// Something may have changed for what lies in this hospital's folder.
    pub(crate) fn changed(&self, hospital: HospitalId) {
        let _ = self.0.calls.try_send(Call::Changed(hospital));
    }

    /// Removes packages, one after another, and the blobs that nobody names then.
    async fn remove(&self, packages: Vec<Left>) -> Result<(), FolderError> {
        for left in packages {
            let _names = self.0.names.lock().await;
            let (keys, removed) = (self.0.desk.keys.clone(), left.clone());
            let unnamed = self.0.desk.store.write(move |txn| match rows::again(txn, &keys, &removed)? {
                Some(_) => rows::remove(txn, &keys, &removed),
                None => Ok(BTreeSet::new()),
            });
            self.delete(unnamed.await?).await?;
            self.clear(&left)?;
        }
        Ok(())
    }

    /// Whether the disk has the room that is kept free, if packages are taken at all.
    fn has_disk(&self) -> Result<(), Code> {
        let free = self.0.blobs.free_bytes().map_err(|fault| fault.code())?;
        if self.0.rules.is_on && free < self.0.rules.free_bytes { Err(Code::FolderDiskFull) } else { Ok(()) }
    }

    /// Whether what keeps the packages answers.
    pub(crate) fn has_blobs(&self) -> Result<(), Code> {
        if self.0.blobs.is_away() { Err(Code::StoreUnavailable) } else { Ok(()) }
    }

    async fn delete(&self, unnamed: BTreeSet<ContentRoot>) -> Result<(), FolderError> {
        for root in unnamed {
            if let Err(fault) = self.0.blobs.delete(root).await {
                self.0.is_swept.store(false, Ordering::Release);
                return Err(fault.into());
            }
        }
        Ok(())
    }

    /// Removes what is left of a package's way in.
    fn clear(&self, left: &Left) -> Result<(), FolderError> {
        match std::fs::remove_dir_all(self.incoming(left)) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault.into()),
            _ => Ok(()),
        }
    }

    fn is_arriving(&self, transfer: TransferId) -> bool {
        self.0.arriving.lock().unwrap_or_else(PoisonError::into_inner).contains(&transfer)
    }

    fn incoming(&self, left: &Left) -> PathBuf {
        self.0.incoming.join(format!("{}.{}", left.transfer, left.attempt))
    }

    /// Sweeps, if that is due; what could not be done is tried again with the next round.
    async fn sweep_if_due(&self) {
        if self.0.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(fault) = self.sweep().await {
            self.0.is_swept.store(false, Ordering::Release);
            tracing::error!(code = %fault.code(), %fault, "leftovers of folders cannot be removed; trying again");
        }
    }

    /// Removes what no row names: left by a process that was killed between a row and its blobs, or that could not.
    async fn sweep(&self) -> Result<(), FolderError> {
        let mut blobs = self.0.blobs.list();
        while let Some(root) = blobs.next().await {
            let (keys, root) = (self.0.desk.keys.clone(), root?);
            // Decided and done in one go, and nobody else waits for all of it.
            let _names = self.0.names.lock().await;
            if !self.0.desk.store.read(move |txn| rows::is_named(txn, &keys, root)).await? {
                self.0.blobs.delete(root).await?;
            }
        }
        let _names = self.0.names.lock().await;
        let keys = self.0.desk.keys.clone();
        let known = self.0.desk.store.read(move |txn| rows::all(txn, &keys)).await?;
        let known: BTreeSet<PathBuf> = known.iter().map(|left| self.incoming(left)).collect();
        let Ok(found) = std::fs::read_dir(&self.0.incoming) else { return Ok(()) };
        for entry in found {
            let path = entry?.path();
            if !known.contains(&path) {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

/// One stream at a time writes a transfer's parts.
struct Alone(Arc<Inner>, TransferId);

impl Alone {
    fn with(inner: &Arc<Inner>, transfer: TransferId) -> Result<Self, Code> {
        let mut arriving = inner.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        if arriving.insert(transfer) { Ok(Self(Arc::clone(inner), transfer)) } else { Err(Code::Busy) }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.arriving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}
