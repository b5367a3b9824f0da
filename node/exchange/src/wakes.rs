//! What wakes the deliveries under continuous consents, and why one of them has to wait. Kept in memory: a start looks
//! at every live consent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use handover_core::{Code, TransferId};
use handover_records::LocalPatient;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pauses::Wait;

/// The step that waits, as the desk reads it.
const STEP: &str = "continue";

/// What has happened since it was last asked.
#[derive(Default)]
pub(crate) struct Woken {
    /// Patients of whom something was filed here.
    pub(crate) patients: BTreeSet<LocalPatient>,
    /// Transfers with which something has changed for the consent that they were given.
    pub(crate) consents: BTreeSet<TransferId>,
    /// Another directory is here: who had to wait may go on.
    pub(crate) is_directory_new: bool,
}

struct Hold {
    code: Code,
    until: Instant,
}

/// What wakes deliveries, and what holds them.
#[derive(Default)]
pub(crate) struct Wakes {
    woken: Mutex<Woken>,
    bell: Notify,
    holds: Mutex<BTreeMap<TransferId, Hold>>,
}

impl Wakes {
    fn wake(&self, change: impl FnOnce(&mut Woken)) {
        change(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    /// Records of these patients were filed here.
    pub(crate) fn changed(&self, patients: impl IntoIterator<Item = LocalPatient>) {
        self.wake(|woken| woken.patients.extend(patients));
    }

    /// Something has changed for the consent that this transfer was given.
    pub(crate) fn consent(&self, origin: TransferId) {
        self.wake(|woken| {
            woken.consents.insert(origin);
        });
    }

    /// Another directory is here.
    pub(crate) fn directory(&self) {
        self.wake(|woken| woken.is_directory_new = true);
    }

    /// Waits until something has happened.
    pub(crate) async fn notified(&self) {
        self.bell.notified().await;
    }

    /// What it was.
    pub(crate) fn take(&self) -> Woken {
        std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<TransferId, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes on with this transfer has to wait.
    pub(crate) fn hold(&self, origin: TransferId, code: Code, until: Instant) {
        self.holds().insert(origin, Hold { code, until });
    }

    /// Nothing holds it any more.
    pub(crate) fn let_go(&self, origin: TransferId) {
        self.holds().remove(&origin);
    }

    /// Everything that has to wait.
    pub(crate) fn held(&self) -> Vec<TransferId> {
        self.holds().keys().copied().collect()
    }

    /// Why what goes on with this transfer has to wait, if it does.
    pub(crate) fn wait(&self, origin: TransferId, now: Instant) -> Option<Wait> {
        let holds = self.holds();
        let Hold { code, until } = holds.get(&origin)?;
        let next_in = until.saturating_duration_since(now);
        Some(Wait { step: STEP, party: None, code: *code, next_in })
    }
}
