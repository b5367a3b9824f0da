//! The agreed quote's body in the clear, as each hospital keeps it for its own desk: at the source since it quoted,
//! at the destination since it opened the package.

use handover_core::TransferId;
use handover_core::artefact::transfer::QuoteBody;
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::manifest::FRAME_MAX_BYTES;

const BODY: &str = "quote-body";

pub(crate) fn put(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    body: &QuoteBody,
) -> Result<(), StoreError> {
    rows::put_large(txn, &keys.space(BODY).hashed(transfer.as_bytes()), body)
}

pub(crate) fn get(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<QuoteBody>, StoreError> {
    rows::get_large(txn, &keys.space(BODY).hashed(transfer.as_bytes()), FRAME_MAX_BYTES)
}

/// Removes it: the transfer's patient is forgotten here.
pub(crate) fn remove(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<(), StoreError> {
    rows::remove_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()))
}
