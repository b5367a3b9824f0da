//! The agreed quote's body in the clear, as each hospital keeps it for its own desk: at the source since it quoted,
//! at the destination since it opened the package.

use handover_core::TransferId;
use handover_core::artefact::transfer::QuoteBody;
use handover_core::codec;
use handover_store::{KeyMaker, StoreError, Txn};

use crate::manifest::FRAME_MAX_BYTES;
use crate::{ExchangeError, chunks};

const BODY: &str = "quote-body";

pub(crate) fn put(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    body: &QuoteBody,
) -> Result<(), StoreError> {
    chunks::put(txn, &keys.space(BODY).hashed(transfer.as_bytes()), &codec::encode(body))
}

pub(crate) fn get(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<QuoteBody>, ExchangeError> {
    match chunks::get(txn, &keys.space(BODY).hashed(transfer.as_bytes()))? {
        None => Ok(None),
        Some(bytes) => Ok(Some(codec::decode(&bytes, FRAME_MAX_BYTES)?)),
    }
}
