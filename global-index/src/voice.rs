//! Whether this store may speak for the index: asked, in memory, before anything is booked, signed or handed out, and once
//! more, in the store, by the transaction that books, hands out or makes a directory. A store that was restored from a
//! backup has signed what it does not know any more; until it does, it says nothing.
//!
//! Invariant: that a store was rolled back is durable before it is acted on, and stays so over any stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handover_core::codec::Extensions;
use handover_core::{Code, Digest, HospitalId, Timestamp, cbor_map};
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
        /// Logs that were signed and cannot be made whole: whoever holds one holds another log.
        6 => given_up: Vec<GivenUp>,
        /// Who was not waited for: what they hold of such a log is asked for once they are back.
        7 => left_out: Vec<HospitalId>,
    }
}

cbor_map! {
    /// A log that was signed.
    pub struct GivenUp {
        /// Entries.
        1 => size: u64,
        /// Its tree's root.
        2 => root: Digest,
    }
}

/// How long an order waits for the first hospitals to be asked after a start.
pub(crate) const ORDER_PATIENCE: Duration = Duration::from_secs(20);

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

/// Whether the store was rolled back and has not caught up, as it knows itself.
pub(crate) fn is_catching_up(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<bool, StoreError> {
    Ok(head(txn, keys)?.is_some_and(|head| head.done.is_none()))
}

/// Notes that the store was rolled back, and from when on hospitals are asked for evidence.
pub(crate) fn declare(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (now, since): (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    let begun = match head(txn, keys)?.filter(|known| known.done.is_none()) {
        Some(known) => Head { since: known.since.min(since), ..known },
        None => Head {
            found: now,
            done: None,
            since,
            entries: 0,
            artefacts: 0,
            given_up: Vec::new(),
            left_out: Vec::new(),
            extensions: Extensions::default(),
        },
    };
    rows::put(txn, &head_key(keys), &begun)
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
    /// How often it was found since the start that the store was rolled back.
    begun: Arc<AtomicU64>,
    /// Who has still to tell, while it catches up.
    waits_for: Arc<watch::Sender<BTreeSet<HospitalId>>>,
    /// Who is not waited for, by hand.
    without: Arc<watch::Sender<BTreeSet<HospitalId>>>,
}

impl Voice {
    /// As the store says.
    pub(crate) async fn open(store: &Store) -> Result<Self, StoreError> {
        let keys = store.keys();
        let is_catching_up = store.read(move |txn| is_catching_up(txn, &keys)).await?;
        let phase = if is_catching_up { Phase::CatchingUp } else { Phase::Speaking };
        Ok(Self {
            phase: Arc::new(watch::Sender::new(phase)),
            begun: Arc::default(),
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

    /// The same, once the first hospitals were asked after a start, which is waited for this long.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) async fn may_soon_speak(&self, patience: Duration) -> Result<(), Code> {
        let mut phases = self.watch();
        let asked = phases.wait_for(|phase| *phase != Phase::Asking);
        // Who runs into the limit is refused by what comes next.
        let _ = tokio::time::timeout(patience, asked).await;
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
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.phase.send_replace(Phase::CatchingUp);
        let keys = store.keys();
        store.write(move |txn| declare(txn, &keys, (now, since))).await
    }

    /// How often it was found since the start that the store was rolled back.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Everything is known that others hold, if nothing else was found since it had begun so often.
    pub(crate) fn speak_after(&self, begun: u64) {
        self.phase.send_if_modified(|phase| {
            let is_over = self.begun() == begun;
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

    /// Does not wait for these, until the next start, or until they have something to tell.
    pub(crate) fn go_without(&self, hospitals: impl IntoIterator<Item = HospitalId>) {
        self.without.send_modify(|all| all.extend(hospitals));
    }

    /// It is there after all, and has something to tell.
    pub(crate) fn go_with(&self, hospital: &HospitalId) {
        self.without.send_if_modified(|all| all.remove(hospital));
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
        voice.speak_after(voice.begun());
        assert_eq!(voice.may_speak(), Ok(()));
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

    #[tokio::test]
    async fn what_was_found_meanwhile_is_not_forgotten() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let voice = Voice::open(&store).await.unwrap();
        let at = |ms| Timestamp::from_millis(ms);
        voice.catch_up(&store, (at(2), at(5))).await.unwrap();
        let begun = voice.begun();
        voice.catch_up(&store, (at(3), at(1))).await.unwrap();
        voice.speak_after(begun);
        assert_eq!(voice.may_speak(), Err(Code::CatchingUp));
        let keys = store.keys();
        let known = store.read(move |txn| head(txn, &keys)).await.unwrap().unwrap();
        // Whoever looks further back is heard.
        assert_eq!((known.found, known.since), (at(2), at(1)));
        voice.speak_after(voice.begun());
        assert_eq!(voice.may_speak(), Ok(()));
    }
}
