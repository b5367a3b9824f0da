//! What a hospital gives back of what was lost here: taken in and booked as anything that comes, and passed on to whoever
//! may not have got it.
//!
//! Invariant: what a patient signed counts as lost only if the books show that it was here; else it comes as if for the first
//! time. Or whoever stole a patient's keys, and found a hospital to help, could bring it as lost.

use handover_core::artefact::patient::{Consent, PatientRefusal, ShareRelease};
use handover_core::artefact::{Payload as _, peek_type};
use handover_core::rules::Context;
use handover_core::transfer::Role;
use handover_core::{Code, TransferId};
use handover_dossier::{Dossier, Place, transfer_of};
use handover_seal::Ed25519;
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
        let context = Context { federation: self.current.federation(), verifier: &Ed25519 };
        let is_carried = !is_patients(content) || !self.book.transfer(txn, &transfer)?.is_empty();
        let mut dossier = Dossier::of(txn, &self.keys, transfer);
        let taken = if is_carried {
            dossier.take_back(Role::Index, content, context, self.now)?
        } else {
            dossier.take_copy(content, context, self.now)?
        };
        if ![&taken.row.source, &taken.row.destination].contains(&&self.sender) {
            return Err(Code::AccessDenied.into());
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
    let mut kept: Vec<Place> = Vec::new();
    for place in Place::in_recovery_order() {
        if dossier.get_own(place)?.is_some() {
            kept.push(place);
        }
    }
    for place in kept {
        for hospital in [&row.source, &row.destination] {
            mailbox::post(txn, keys, hospital, transfer, place)?;
        }
    }
    Ok(())
}
