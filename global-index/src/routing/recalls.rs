//! What recalls do to the books: each gives back a part of the fee, by a reversal that names the posted entry and the
//! recall. The dossier took none that gives back more than the fee, and the books take no reversal beyond it.
//!
//! Invariant: a reversal bears its recall's number, so that doing it again does nothing. While the fee is not posted
//! there is nothing to be reversed: whatever posts it asks here.

use handover_core::TransferId;
use handover_core::ledger::{Evidence, Reason};
use handover_core::rules::Context;
use handover_dossier::{Dossier, Kind};
use handover_store::{KeyMaker, Txn};

use super::RoutingError;
use crate::ledger::{Book, Booking};

/// Reverses what the recalls that are here give back, once the fee is posted.
pub(super) fn give_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let numbers = Dossier::of(txn, keys, transfer).attempts_with(Kind::Recall)?;
    if numbers.is_empty() {
        return Ok(());
    }
    let ledger = book.story(txn, &transfer)?;
    // A fee that was settled for its payer is given back already.
    if ledger.posted().is_none() || ledger.is_let_go() {
        return Ok(());
    }
    for number in numbers.into_iter().filter(|number| ledger.reversal(*number).is_none()) {
        let (recall, _) = Dossier::of(txn, keys, transfer).recall(number, context)?;
        if recall.fee_back.minor() == 0 {
            continue;
        }
        let evidence = Evidence { recall: Some(recall.hash()), ..Evidence::default() };
        book.reverse(txn, booking, &transfer, number, recall.fee_back, Reason::Recalled, &evidence)?;
    }
    Ok(())
}
