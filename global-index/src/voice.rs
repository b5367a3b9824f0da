//! Whether this store may speak for the index: asked, in memory, by everything that books, signs or hands out. A store that
//! was restored from a backup has signed what it does not know any more; until it does, it says nothing.
//!
//! Invariant: that a store was rolled back is durable before it is acted on, and stays so over any stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use handover_core::codec::Extensions;
use handover_core::{Code, HospitalId, Timestamp, cbor_map};
use handover_store::{KeyMaker, Store, StoreError, Txn, rows};
use tokio::sync::watch;

cbor_map! {
    /// A store that was rolled back.
    pub struct Head {
        /// When that was found, or said by hand.
        1 => found: Timestamp,
        /// When everything was back; absent: it catches up.
        2 => done: Option<Timestamp>,
        /// From when on hospitals are asked for evidence.
        3 => since: Timestamp,
        /// Entries of the log that were put back.
        4 => entries: u64,
        /// Artefacts that were taken back.
        5 => artefacts: u64,
        /// How large the largest log was that was signed and cannot be made whole, if there is one.
        6 => forked: Option<u64>,
    }
}

/// How long it is waited for that the first hospitals were asked after a start.
const PATIENCE: Duration = Duration::from_secs(20);

fn head_key(keys: &KeyMaker) -> Vec<u8> {
    keys.space("rejoin").build()
}

/// How it stands with the store, if it ever was rolled back.
pub(crate) fn head(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Head>, StoreError> {
    rows::get(txn, &head_key(keys))
}

/// Changes what is kept of that; nothing, if it never was.
pub(crate) fn change_head(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    change: impl FnOnce(&mut Head),
) -> Result<(), StoreError> {
    let Some(mut known) = head(txn, keys)? else { return Ok(()) };
    change(&mut known);
    rows::put(txn, &head_key(keys), &known)
}

/// What the store does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The process has begun: hospitals are asked what they hold of the index.
    Asking,
    /// It was rolled back, and takes back what others hold.
    CatchingUp,
    /// It speaks for the index.
    Speaking,
}

/// The voice. Clones share it.
#[derive(Clone)]
pub(crate) struct Voice {
    phase: Arc<watch::Sender<Phase>>,
    /// Who has still to tell, while it catches up.
    waits_for: Arc<watch::Sender<BTreeSet<HospitalId>>>,
    /// Who is not waited for, by hand.
    without: Arc<watch::Sender<BTreeSet<HospitalId>>>,
}

impl Voice {
    /// As the store says.
    pub(crate) async fn open(store: &Store) -> Result<Self, StoreError> {
        let keys = store.keys();
        let known = store.read(move |txn| head(txn, &keys)).await?;
        let is_catching_up = known.is_some_and(|head| head.done.is_none());
        let phase = if is_catching_up { Phase::CatchingUp } else { Phase::Speaking };
        Ok(Self {
            phase: Arc::new(watch::Sender::new(phase)),
            waits_for: Arc::default(),
            without: Arc::default(),
        })
    }

    /// Whether anything may be booked, signed or handed out.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) fn may_speak(&self) -> Result<(), Code> {
        if self.phase() == Phase::Speaking { Ok(()) } else { Err(Code::CatchingUp) }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The same, once the first hospitals were asked after a start; that is waited for a little.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) async fn may_soon_speak(&self) -> Result<(), Code> {
        let mut phases = self.watch();
        let asked = phases.wait_for(|phase| *phase != Phase::Asking);
        // Who runs into the limit is refused by what comes next.
        let _ = tokio::time::timeout(PATIENCE, asked).await;
        self.may_speak()
    }

    /// Tells of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// A process has begun, and nobody was asked yet.
    pub(crate) fn ask(&self) {
        self.phase.send_if_modified(|phase| {
            let is_speaking = *phase == Phase::Speaking;
            if is_speaking {
                *phase = Phase::Asking;
            }
            is_speaking
        });
    }

    /// Others hold what this store does not know: durable, then said.
    pub(crate) async fn catch_up(
        &self,
        store: &Store,
        (now, since): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        // Nothing more is signed from here on, whatever becomes of the row.
        self.phase.send_replace(Phase::CatchingUp);
        let keys = store.keys();
        let begun = store.write(move |txn| {
            if head(txn, &keys)?.is_some_and(|known| known.done.is_none()) {
                return Ok(());
            }
            let begun = Head {
                found: now,
                done: None,
                since,
                entries: 0,
                artefacts: 0,
                forked: None,
                extensions: Extensions::default(),
            };
            rows::put(txn, &head_key(&keys), &begun)
        });
        begun.await
    }

    /// Everything is known that others hold, if nothing else came up in this phase.
    pub(crate) fn speak_after(&self, done: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_over = *phase == done;
            if is_over {
                *phase = Phase::Speaking;
            }
            is_over
        });
    }

    /// Who has still to tell.
    pub(crate) fn waits_for(&self) -> BTreeSet<HospitalId> {
        self.waits_for.borrow().clone()
    }

    pub(crate) fn set_waits_for(&self, hospitals: BTreeSet<HospitalId>) {
        self.waits_for.send_replace(hospitals);
    }

    /// Who is not waited for.
    pub(crate) fn without(&self) -> BTreeSet<HospitalId> {
        self.without.borrow().clone()
    }

    /// Does not wait for these, until the next start.
    pub(crate) fn go_without(&self, hospitals: impl IntoIterator<Item = HospitalId>) {
        self.without.send_modify(|all| all.extend(hospitals));
    }
}

#[cfg(test)]
mod tests {
    use handover_store::CellKey;

    use super::*;

    #[tokio::test]
    async fn what_was_found_out_is_known_at_the_next_start() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let voice = Voice::open(&store).await.unwrap();
        assert_eq!(voice.may_speak(), Ok(()));
        voice.ask();
        assert_eq!(voice.may_speak(), Err(Code::CatchingUp));
        voice.speak_after(Phase::CatchingUp);
        assert_eq!(voice.phase(), Phase::Asking);
        voice.speak_after(Phase::Asking);
        let at = |ms| Timestamp::from_millis(ms);
        voice.catch_up(&store, (at(2), at(1))).await.unwrap();
        voice.catch_up(&store, (at(4), at(3))).await.unwrap();
        voice.ask();
        let again = Voice::open(&store).await.unwrap();
        assert_eq!([voice.phase(), again.phase()], [Phase::CatchingUp; 2]);
        let keys = store.keys();
        let known = store.read(move |txn| head(txn, &keys)).await.unwrap().unwrap();
        assert_eq!((known.found, known.since), (at(2), at(1)));
    }
}
