//! What a hospital gives back of what was lost here: taken in and booked as anything that comes, and passed on to whoever
//! may not have got it.
//!
//! Invariants: what a patient signed counts as lost only if the books show that it was here; else it comes as if for the
//! first time. Or whoever stole a patient's keys, and found a hospital to help, could bring it as lost. What a key signed
//! that its hospital has replaced since comes back from that hospital alone, for the same reason.

use handover_core::artefact::patient::{Consent, PatientRefusal, ShareRelease};
use handover_core::artefact::{Payload as _, peek_type};
use handover_core::rules::Context;
use handover_core::transfer::Role;
use handover_core::{Code, Party, TransferId};
use handover_dossier::{Dossier, Kind, Place, transfer_of};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};

use super::{Intake, RoutingError, booking, mailbox};
use crate::ledger::Booking;

impl Intake {
    /// Takes something back that the sender kept: whose it is, and whether it was not here. The books, which were put back
    /// before, do not take twice what it leads to.
    pub(crate) fn take_back(
        &self,
        txn: &mut dyn Txn,
        content: &[u8],
        salt_seed: [u8; 32],
    ) -> Result<(TransferId, bool), RoutingError> {
        let transfer = transfer_of(content)?;
        let context = Context { federation: self.current.federation(), verifier: &Remembered };
        let booked = self.book.transfer(txn, &transfer)?;
        let is_carried = !is_patients(content) || !booked.is_empty();
        let mut dossier = Dossier::of(txn, &self.keys, transfer);
        dossier.check_bringer(content, &Party::Hospital(self.sender.clone()), context)?;
        let taken = if is_carried {
            dossier.take_back(Role::Index, content, context, self.now)?
        } else {
            dossier.take_copy(content, context, self.now)?
        };
        if ![&taken.row.source, &taken.row.destination].contains(&&self.sender) {
            return Err(Code::AccessDenied.into());
        }
        // Where the books name the consent, no other one takes its place.
        if taken.kind() == Kind::Consent && taken.is_new {
            let hash = dossier.consent(context)?.hash();
            let mut named = booked.iter().filter_map(|it| it.entry.evidence.consent).peekable();
            if named.peek().is_some() && !named.any(|it| it == hash) {
                return Err(Code::Conflict.into());
            }
        }
        if taken.is_new {
            let booking = Booking { now: self.now, salt_seed };
            booking::consequence(txn, &self.keys, &self.book, &booking, &taken, context)?;
        }
        mailbox::mark(txn, &self.keys, &self.sender, transfer, taken.place)?;
        Ok((transfer, taken.is_new))
    }
}

/// Whether a patient signed it, and may sign otherwise with other keys.
fn is_patients(content: &[u8]) -> bool {
    let kinds = [Consent::TYPE, ShareRelease::TYPE, PatientRefusal::TYPE];
    peek_type(content).is_ok_and(|label| kinds.contains(&label.as_str()))
}

/// Puts everything of a transfer into the mailbox of each of its hospitals that is not known to have it.
pub(crate) fn pass_on_again(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), RoutingError> {
    let mut dossier = Dossier::of(txn, keys, transfer);
    let Some(row) = dossier.row()? else { return Ok(()) };
    let (mut kept, mut was_last_recall): (Vec<Place>, _) = (Vec::new(), false);
    for place in Place::in_recovery_order() {
        // There can be a thousand, numbered without a gap.
        if was_last_recall && matches!(place.kind, Kind::Recall | Kind::RecallConfirmed) {
            continue;
        }
        if dossier.get_own(place)?.is_some() {
            kept.push(place);
        } else {
            was_last_recall |= place.kind == Kind::Recall;
        }
    }
    for place in kept {
        for hospital in [&row.source, &row.destination] {
            mailbox::post(txn, keys, hospital, transfer, place)?;
        }
    }
    Ok(())
}
