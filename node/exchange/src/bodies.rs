//! The agreed quote's body as each hospital keeps it for its own desk: at the source since it quoted, at the
//! destination since it opened the package. It names tests, so it is sealed under a secret that can be forgotten.

use handover_core::TransferId;
use handover_core::artefact::transfer::QuoteBody;
use handover_core::codec;
use handover_seal::OsRandom;
use handover_seal::cell::{open_cell, seal_cell};
use handover_store::{KeyMaker, Keyring, StoreError, Txn, rows};

use crate::manifest::FRAME_MAX_BYTES;

const BODY: &str = "quote-body";

pub(crate) fn put(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
    body: &QuoteBody,
) -> Result<(), StoreError> {
    let secret = keyring.get_or_make(txn, BODY, transfer.as_bytes(), &mut OsRandom)?;
    let sealed = seal_cell(&secret, &bound(transfer), &codec::encode(body), &mut OsRandom)
        .map_err(|_| rows::damaged("a quote"))?;
    rows::put_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()), &sealed)
}

pub(crate) fn get(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<QuoteBody>, StoreError> {
    let Some(sealed) = rows::get_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()))? else {
        return Ok(None);
    };
    let damaged = || rows::damaged("a quote");
    let secret = keyring.get(txn, BODY, transfer.as_bytes())?.ok_or_else(damaged)?;
    let body = open_cell(&secret, &bound(transfer), &sealed).map_err(|_| damaged())?;
    codec::decode(&body, FRAME_MAX_BYTES).map(Some).map_err(|_| damaged())
}

/// Removes it: the transfer's patient is forgotten here.
pub(crate) fn remove(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), StoreError> {
    keyring.remove(txn, BODY, transfer.as_bytes())?;
    rows::remove_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()))
}

fn bound(transfer: TransferId) -> Vec<u8> {
    [BODY.as_bytes(), transfer.as_bytes()].concat()
}
