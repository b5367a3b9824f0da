//! What every room works with: the store, the books, the index's signing key, clock and randomness, and the directory
//! that is in force. One transaction changes rows and directory together; only then the new directory is shown.

use std::sync::Arc;

use handover_core::artefact::federation::AuthorityCertificate;
use handover_core::id::SigningPublic;
use handover_core::time::Clock;
use handover_core::trust::Federation;
use handover_core::{Code, Edition, Random, Timestamp};
use handover_seal::{OsRandom, SigningKey, SystemClock};
use handover_store::{KeyMaker, Store, StoreError, Txn};
use tokio::sync::watch;

use crate::directory::{self, Current, DirectoryError};
use crate::keepsakes::Keepsakes;
use crate::ledger::{BooksError, Ledger};
use crate::registry::{self, RegistryError};
use crate::voice::{self, ORDER_PATIENCE, Voice};

/// Where time and randomness come from.
#[derive(Clone)]
pub struct Edge {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives a source of randomness.
    pub random: fn() -> Box<dyn Random>,
}

impl Edge {
    /// The operating system's.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), random: || Box::new(OsRandom) }
    }
}

/// Whether a transaction changed what stands in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Something in it: a new version is made in the same transaction.
    Directory,
    /// The edition in force: the same.
    Edition(Edition),
    /// Nothing in it.
    Nothing,
}

/// The index's signing key with the root's certificate for it.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) root: SigningPublic,
    pub(crate) signer: Arc<SigningKey>,
    /// The certificate's envelope.
    pub(crate) certificate: Vec<u8>,
    /// What it says.
    pub(crate) authority: AuthorityCertificate,
    /// For what others keep for it.
    pub(crate) keepsakes: Keepsakes,
}

/// The desk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) keys: KeyMaker,
    pub(crate) ledger: Ledger,
    pub(crate) seat: Seat,
    pub(crate) edge: Edge,
    pub(crate) voice: Voice,
    current: watch::Sender<Arc<Current>>,
}

impl Desk {
    /// Opens what is kept, and makes a first directory if there is none.
    pub(crate) async fn open(store: Store, seat: Seat, edge: Edge) -> Result<Self, DirectoryError> {
        let (keys, ledger) = (store.keys(), Ledger::new(store.clone()));
        // They are for others to read: what is wrong with them keeps fees from being booked, and a store
        // that was rolled back from taking its log back; nothing else.
        match ledger.fill_tables().await {
            Err(BooksError::Store(fault)) if !matches!(fault, StoreError::Contradicted { .. }) => {
                return Err(fault.into());
            }
            Err(fault) => tracing::error!(%fault, "the books' tables"),
            Ok(()) => {}
        }
        let voice = Voice::open(&store).await?;
        let now = edge.clock.now();
        let current = {
            let (keys, seat, book) = (keys.clone(), seat.clone(), ledger.book().clone());
            store
                .write(move |txn| match directory::load(txn, &keys, &seat, now)? {
                    Some(current) => Ok::<_, DirectoryError>(current),
                    None => directory::rebuild(txn, &keys, &seat, &book, None, (None, now)),
                })
                .await?
        };
        seat.signer.signs_in().set(current.edition());
        Ok(Self { store, keys, ledger, seat, edge, voice, current: watch::Sender::new(Arc::new(current)) })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.edge.clock.now()
    }

    pub(crate) fn random_32(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        (self.edge.random)().fill(&mut bytes);
        bytes
    }

    /// The directory in force.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells of each new directory.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Current>> {
        self.current.subscribe()
    }

    /// Runs a transaction; if it changed what stands in the directory, the new version is made, signed and stored
    /// with it, and in force when this returns. Not while the index may not speak.
    pub(crate) async fn change<T, E, F>(&self, mut f: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Txn) -> Result<(T, Changed), E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + From<DirectoryError> + Send + 'static,
    {
        self.voice.may_soon_speak(ORDER_PATIENCE).await.map_err(DirectoryError::Silent)?;
        let (keys, seat, book, now) =
            (self.keys.clone(), self.seat.clone(), self.ledger.book().clone(), self.now());
        let known = self.current();
        let (value, current) = self
            .store
            .write(move |txn| {
                let rebuilt = |txn: &mut dyn Txn, raised| {
                    directory::rebuild(txn, &keys, &seat, &book, Some(&known), (raised, now))
                };
                let (value, changed) = f(txn)?;
                let current = match changed {
                    Changed::Nothing => None,
                    // It may have been found since that the store was rolled back.
                    _ if voice::is_catching_up(txn, &keys)? => {
                        return Err(DirectoryError::Silent(Code::CatchingUp).into());
                    }
                    Changed::Directory => Some(rebuilt(txn, None)?),
                    Changed::Edition(raised) => Some(rebuilt(txn, Some(raised))?),
                };
                Ok::<_, E>((value, current))
            })
            .await?;
        if let Some(current) = current {
            self.show(current);
        }
        Ok(value)
    }

    /// Everything is back that stands in a directory that this index has signed and lost; and it is in force again, if
    /// none that is as new is here. Piece by piece, as all hospitals are too much for one transaction: what is back is back,
    /// and until all of it is, the index catches up.
    pub(crate) async fn put_back(&self, federation: Federation) -> Result<(), RegistryError> {
        let (now, federation) = (self.now(), Arc::new(federation));
        let (keys, back) = (self.keys.clone(), Arc::clone(&federation));
        self.store.write(move |txn| registry::put_back_head(txn, &keys, &back)).await?;
        for place in federation.places() {
            let (keys, back) = (self.keys.clone(), Arc::clone(&federation));
            let put = move |txn: &mut dyn Txn| registry::put_back_piece(txn, &keys, (&back, place), now);
            self.store.write(put).await?;
        }
        let keys = self.keys.clone();
        let put = move |txn: &mut dyn Txn| directory::put_back(txn, &keys, &federation);
        if let Some(current) = self.store.write(put).await? {
            self.show(current);
        }
        Ok(())
    }

    /// Everything is back, and a directory says so that is above all that were given back; unless it was found since then
    /// that more was lost. Whether it is.
    pub(crate) async fn end_catching_up(&self, begun: u64) -> Result<bool, DirectoryError> {
        let (keys, seat, book, now) =
            (self.keys.clone(), self.seat.clone(), self.ledger.book().clone(), self.now());
        let (voice, known) = (self.voice.clone(), self.current());
        let end = move |txn: &mut dyn Txn| -> Result<Option<Current>, DirectoryError> {
            if voice.begun() != begun {
                return Ok(None);
            }
            voice::change_head(txn, &keys, |head| {
                head.done = Some(now);
                head.left_out = voice.without().into_iter().collect();
            })?;
            Ok(Some(directory::rebuild(txn, &keys, &seat, &book, Some(&known), (None, now))?))
        };
        let current = self.store.write(end).await?;
        let is_over = current.is_some();
        current.into_iter().for_each(|current| self.show(current));
        Ok(is_over)
    }

    /// Versions never fall, in whatever order transactions are answered.
    fn show(&self, next: Current) {
        self.current.send_if_modified(|held| {
            let is_newer = next.version() > held.version();
            if is_newer {
                self.seat.signer.signs_in().set(next.edition());
                *held = Arc::new(next.clone());
            }
            is_newer
        });
    }
}
