//! The agreed quote's body as each hospital keeps it for its own desk: at the source since it quoted, at the
//! destination since it opened the package. It names tests, so it is sealed under a secret that can be forgotten.

use handover_core::artefact::transfer::{QuoteBody, QuoteLine};
use handover_core::codec::{self, Extensions};
use handover_core::{TransferId, cbor_map};
use handover_seal::OsRandom;
use handover_seal::cell::{open_cell, seal_cell};
use handover_store::{KeyMaker, Keyring, StoreError, Txn, rows};

const BODY: &str = "quote-body";
/// The most bytes that are kept of one: the tests that are not sent can be many.
pub(crate) const KEPT_MAX_BYTES: usize = 4 * 1024 * 1024;

cbor_map! {
    /// A body, and what its source alone knows of it.
    pub(crate) struct Priced {
        /// As it was quoted.
        1 => body: QuoteBody,
        /// The tests behind its other tests; at the destination none.
        2 => others: Vec<QuoteLine>,
    }
}

impl Priced {
    /// As the destination knows it.
    pub(crate) fn received(body: QuoteBody) -> Self {
        Self { body, others: Vec::new(), extensions: Extensions::default() }
    }

    /// Every test that the fee is made of.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &QuoteLine> {
        self.body.lines.iter().chain(&self.others)
    }
}

pub(crate) fn put(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
    priced: &Priced,
) -> Result<(), StoreError> {
    let secret = keyring.get_or_make(txn, BODY, transfer.as_bytes(), &mut OsRandom)?;
    let sealed = seal_cell(&secret, &bound(transfer), &codec::encode(priced), &mut OsRandom)
        .map_err(|_| rows::damaged("a quote"))?;
    rows::put_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()), &sealed)
}

pub(crate) fn get(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<Priced>, StoreError> {
    let Some(sealed) = rows::get_pieces(txn, &keys.space(BODY).hashed(transfer.as_bytes()))? else {
        return Ok(None);
    };
    let damaged = || rows::damaged("a quote");
    let secret = keyring.get(txn, BODY, transfer.as_bytes())?.ok_or_else(damaged)?;
    let body = open_cell(&secret, &bound(transfer), &sealed).map_err(|_| damaged())?;
    codec::decode(&body, KEPT_MAX_BYTES).map(Some).map_err(|_| damaged())
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
