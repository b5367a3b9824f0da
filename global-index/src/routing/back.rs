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
use handover_dossier::{Dossier, Kind, Place, Taken, transfer_of};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn};

use super::{Intake, RoutingError, booking, mailbox, settlement};
use crate::ledger::{Book, Booking};

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

/// Books what all that is kept of a transfer leads to, as if it had just come: the books lost that. What they have they do
/// not take twice; and people's orders they get again, too.
pub(crate) fn book_again(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let Some(row) = Dossier::of(txn, keys, transfer).row()? else { return Ok(()) };
    for place in kept(&mut Dossier::of(txn, keys, transfer), Dossier::get)? {
        let taken = Taken { place, row: row.clone(), is_new: false, ended: Vec::new(), was_kept: true };
        not_refused(transfer, booking::consequence(txn, keys, book, booking, &taken, context))?;
    }
    not_refused(transfer, settlement::settle_again(txn, keys, book, booking, transfer, context))
}

/// What cannot be booked any more keeps nothing else from being booked.
fn not_refused(transfer: TransferId, booked: Result<(), RoutingError>) -> Result<(), RoutingError> {
    match booked {
        Err(RoutingError::Refused(code)) => {
            tracing::info!(%transfer, %code, "something of it is not booked again");
            Ok(())
        }
        booked => booked,
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
    for place in kept(&mut dossier, Dossier::get_own)? {
        for hospital in [&row.source, &row.destination] {
            mailbox::post(txn, keys, hospital, transfer, place)?;
        }
    }
    Ok(())
}

/// Where something of a transfer is kept.
fn kept<'a>(
    dossier: &mut Dossier<'a>,
    get: impl Fn(&mut Dossier<'a>, Place) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Vec<Place>, StoreError> {
    let (mut kept, mut was_last_recall): (Vec<Place>, _) = (Vec::new(), false);
    for place in Place::in_recovery_order() {
        // There can be a thousand, numbered without a gap.
        if was_last_recall && matches!(place.kind, Kind::Recall | Kind::RecallConfirmed) {
            continue;
        }
        if get(dossier, place)?.is_some() {
            kept.push(place);
        } else {
            was_last_recall |= place.kind == Kind::Recall;
        }
    }
    Ok(kept)
}
