//! Taking back what was lost here, as after a restored backup, from whoever holds it.
//!
//! Invariants: it is verified as anything that comes in; nothing that is kept is replaced; the state moves by as much as
//! what is kept shows more than before ([`crate::shown`]), so it is never behind what this hospital itself signed.

use handover_core::Timestamp;
use handover_core::rules::Context;
use handover_core::transfer::{Role, State, Transition, advance};

use crate::intake::Way;
use crate::kind::Claimed;
use crate::newest::signed_by;
use crate::{Dossier, DossierError, Kind, Place, Row, Taken};

impl Dossier<'_> {
    /// As [`Self::take_copy`], at any role, for what was lost here and is brought back by whoever holds it. It was signed
    /// in its time: the patient's keys, an ask's end, the directory's age and who takes part now say nothing against it.
    /// What the state is past, or what does not follow yet, is kept all the same. [`Taken::is_new`] says whether it was
    /// not here.
    ///
    /// # Errors
    /// As [`Self::take_in`], but no state's codes. What is transient (what it stands on is not here yet) is to be tried
    /// again once there is more; what is final will never be taken back.
    pub fn take_back(
        &mut self,
        role: Role,
        content: &[u8],
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        self.take(role, content, Way::Back, context, now)
    }

    /// Keeps what verified, and moves the state to where it belongs.
    pub(crate) fn put_back(
        &mut self,
        claimed: &Claimed,
        place: Place,
        mut row: Row,
        content: &[u8],
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        // There can be a thousand, and none says where the transfer stands.
        if !place.kind.is_numbered() {
            let mut shown = self.shown(&row, context)?;
            let before = shown.state();
            shown.add(place, content, &row, context)?;
            let is_own = signed_by(claimed, &row, context).as_ref() == row.own() && row.own().is_some();
            // Nothing is filed but what was released.
            let is_proof = is_own || place.kind == Kind::Receipt;
            row.state = moved(row.state, &before, shown.state(), is_proof);
        }
        row.updated = now;
        self.put_row(&row)?;
        self.put(place, content)?;
        if place.kind == Kind::Consent {
            row = self.revoke_early(row.role, Way::Back, row, context, now)?;
        }
        self.taken(row.role, place, row, true, now)
    }
}

/// The state after what is kept showed `before`, and shows `after` now. What ended here by itself, as when its time ran
/// out, goes on only for proof that it had gone on.
fn moved(current: State, before: &State, after: State, is_proof: bool) -> State {
    if after == *before {
        return current;
    }
    if current == *before || (is_proof && current.phase.is_final()) {
        return after;
    }
    match advance(Role::Index, Some(&current), &after) {
        Ok(Transition::Advance(next)) => next,
        _ => current,
    }
}
