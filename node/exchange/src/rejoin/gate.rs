//! Whether this store may speak for its hospital: asked by everything that signs, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::{Code, HospitalId, Party, Timestamp};
use handover_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::rows;
use crate::ExchangeError;

/// When those are asked again who could not be, unless they connect.
const AWAY_PAUSE: Duration = Duration::from_secs(30);

/// Whether this store may speak for its hospital.
pub struct Gate {
    state: Mutex<State>,
    /// Somebody is to be asked.
    bell: Notify,
    /// What was compared when the store was opened: what came before is in it, whatever backup it is.
    pub(super) since: Timestamp,
    /// With whom that was.
    pub(super) partners: BTreeSet<Party>,
}

#[derive(Default)]
struct State {
    /// While the store catches up: who has told everything.
    told: Option<BTreeSet<Party>>,
    /// Who was asked since the start.
    asked: BTreeMap<Party, Asked>,
    /// Whom something waits for.
    wanted: BTreeSet<Party>,
}

#[derive(Clone, Copy)]
enum Asked {
    /// Knows nothing of this hospital's that it does not know itself.
    Compared(Instant),
    /// Could not be reached.
    InVain(Instant),
}

impl Gate {
    /// As the store says that it stands.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: &Store) -> Result<Self, ExchangeError> {
        let keys = store.keys();
        let read = store.read(move |txn| -> Result<_, ExchangeError> {
            let is_catching_up = rows::head(txn, &keys)?.is_some_and(|head| head.done.is_none());
            let told = if is_catching_up { Some(rows::told(txn, &keys)?) } else { None };
            Ok((told, rows::compared(txn, &keys)?))
        });
        let (told, (partners, since)) = read.await?;
        let state = Mutex::new(State { told, ..State::default() });
        let since = since.unwrap_or(Timestamp::from_millis(0));
        Ok(Self { state, bell: Notify::new(), since, partners })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store lacks nothing that it knows of.
    pub(crate) fn is_whole(&self) -> bool {
        self.state().told.is_none()
    }

    /// Whether anything may be signed that concerns this other hospital.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) fn may_sign(&self, other: &HospitalId) -> Result<(), Code> {
        let state = self.state();
        let Some(told) = &state.told else { return Ok(()) };
        let is_whole = told.contains(&Party::Index) && told.contains(&Party::Hospital(other.clone()));
        if is_whole { Ok(()) } else { Err(Code::CatchingUp) }
    }

    /// Whether work may be done for this other hospital: only once it and the index were asked since the start, and one of
    /// them was there. Who was not is asked.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) fn may_work(&self, other: &HospitalId) -> Result<(), Code> {
        self.may_sign(other)?;
        let mut state = self.state();
        let both = [Party::Index, Party::Hospital(other.clone())];
        let is_asked = both.iter().all(|party| state.asked.contains_key(party));
        if is_asked && both.iter().any(|party| state.is_compared(party)) {
            return Ok(());
        }
        for party in both {
            if !state.is_compared(&party) && state.wanted.insert(party) {
                self.bell.notify_one();
            }
        }
        Err(Code::CatchingUp)
    }

    /// Whether a key may be given out to this other hospital, which has been there before: not without it. What was said to
    /// it while the index was away, the index does not know.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) fn may_release(&self, other: &HospitalId) -> Result<(), Code> {
        self.may_work(other)?;
        let (mut state, party) = (self.state(), Party::Hospital(other.clone()));
        if state.is_compared(&party) {
            return Ok(());
        }
        if state.wanted.insert(party) {
            self.bell.notify_one();
        }
        Err(Code::CatchingUp)
    }

    /// Whether this party may be sent what was signed here.
    pub(crate) fn is_compared(&self, party: &Party) -> bool {
        self.state().is_compared(party)
    }

    /// Somebody connected.
    pub(crate) fn connected(&self, party: &Party) {
        let mut state = self.state();
        if !state.is_compared(party) {
            state.asked.remove(party);
        }
        self.bell.notify_one();
    }

    /// Somebody is to be asked.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Who has told everything, while the store catches up.
    pub(super) fn told(&self) -> Option<BTreeSet<Party>> {
        self.state().told.clone()
    }

    /// Whether this party has told everything, or need not.
    pub(super) fn has_told(&self, party: &Party) -> bool {
        self.state().has_told(party)
    }

    /// Whom something waits for.
    pub(super) fn wanted(&self) -> BTreeSet<Party> {
        self.state().wanted.clone()
    }

    /// Whether somebody is to be asked: was not, or not within this, or in vain.
    pub(super) fn is_due(&self, party: &Party, within: Duration) -> bool {
        let state = self.state();
        match state.asked.get(party) {
            None => true,
            // Who was compared with while the store was found to lack something has still to tell.
            Some(Asked::Compared(at)) => !state.has_told(party) || at.elapsed() >= within,
            Some(Asked::InVain(at)) => at.elapsed() >= AWAY_PAUSE,
        }
    }

    /// Nobody has told anything yet.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.told = Some(BTreeSet::new());
        state.asked.clear();
    }

    pub(super) fn put_compared(&self, party: Party) {
        let mut state = self.state();
        state.wanted.remove(&party);
        state.asked.insert(party, Asked::Compared(Instant::now()));
    }

    /// Says whether it is news: something may go on without them.
    pub(super) fn put_in_vain(&self, party: &Party) -> bool {
        let mut state = self.state();
        // Compared with before, which stands until it is time again. Asked for everything in vain since, it is asked again.
        if state.has_told(party) && state.is_compared(party) {
            state.asked.insert(party.clone(), Asked::Compared(Instant::now()));
            return false;
        }
        state.asked.insert(party.clone(), Asked::InVain(Instant::now())).is_none()
    }

    pub(super) fn put_told(&self, party: Party) {
        if let Some(told) = &mut self.state().told {
            told.insert(party.clone());
        }
        self.put_compared(party);
    }

    /// Everybody has told everything.
    pub(super) fn end(&self) {
        self.state().told = None;
    }
}

impl State {
    fn has_told(&self, party: &Party) -> bool {
        self.told.as_ref().is_none_or(|told| told.contains(party))
    }

    fn is_compared(&self, party: &Party) -> bool {
        matches!(self.asked.get(party), Some(Asked::Compared(_)))
    }
}

#[cfg(test)]
mod tests {
    use handover_store::CellKey;

    use super::*;

    #[tokio::test]
    async fn what_concerns_a_hospital_waits_for_the_index_and_that_hospital() {
        let gate = Gate::open(&Store::memory(&CellKey::from_bytes([1; 32]))).await.unwrap();
        let [lakeside, riverside] = ["lakeside", "riverside"].map(|id| id.parse::<HospitalId>().unwrap());
        let party = |hospital: &HospitalId| Party::Hospital(hospital.clone());
        assert_eq!(gate.may_sign(&lakeside), Ok(()));
        assert_eq!(gate.may_work(&lakeside), Err(Code::CatchingUp));
        assert_eq!(gate.wanted(), BTreeSet::from([Party::Index, party(&lakeside)]));
        // The index knows nothing of what went straight to the hospital.
        gate.put_compared(Party::Index);
        assert_eq!(gate.may_work(&lakeside), Err(Code::CatchingUp));
        gate.put_compared(party(&lakeside));
        assert_eq!(gate.may_work(&lakeside), Ok(()));
        // One that is away holds up nobody, and is asked when it is back.
        assert!(gate.put_in_vain(&party(&riverside)));
        assert_eq!(gate.may_work(&riverside), Ok(()));
        assert_eq!(gate.may_release(&riverside), Err(Code::CatchingUp));
        assert_eq!(gate.may_release(&lakeside), Ok(()));
        gate.connected(&party(&riverside));
        assert_eq!(gate.may_work(&riverside), Err(Code::CatchingUp));
        gate.begin();
        for told in [Party::Index, party(&lakeside)] {
            assert_eq!(gate.may_sign(&lakeside), Err(Code::CatchingUp));
            gate.put_told(told);
        }
        assert_eq!(gate.may_work(&lakeside), Ok(()));
        assert_eq!(gate.may_sign(&riverside), Err(Code::CatchingUp));
        gate.end();
        assert_eq!(gate.may_sign(&riverside), Ok(()));
    }

    #[tokio::test]
    async fn who_has_still_to_tell_is_asked_again_though_it_was_compared_with() {
        let gate = Gate::open(&Store::memory(&CellKey::from_bytes([1; 32]))).await.unwrap();
        gate.begin();
        // It was being compared with when the store was found to lack something, and ended before it had told that.
        gate.put_compared(Party::Index);
        gate.put_in_vain(&Party::Index);
        assert!(!gate.is_compared(&Party::Index), "so a connection, or some time, has it asked again");
        gate.put_told(Party::Index);
        gate.put_in_vain(&Party::Index);
        assert!(gate.is_compared(&Party::Index), "it has told everything");
    }

    #[tokio::test]
    async fn with_both_away_nothing_is_given_out() {
        let gate = Gate::open(&Store::memory(&CellKey::from_bytes([1; 32]))).await.unwrap();
        let lakeside: HospitalId = "lakeside".parse().unwrap();
        for party in [Party::Index, Party::Hospital(lakeside.clone())] {
            gate.put_in_vain(&party);
            assert_eq!(gate.may_work(&lakeside), Err(Code::CatchingUp));
        }
    }
}
