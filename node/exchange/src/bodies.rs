//! The agreed quote's body as each hospital keeps it for its own desk: at the source since it quoted, at the
//! destination since it opened the package. It names tests, so it is sealed under a secret that can be forgotten.

use handover_core::artefact::transfer::{OtherTests, Quote, QuoteBody, QuoteLine};
use handover_core::codec::{self, Extensions};
use handover_core::{Code, Currency, Digest, TransferId, cbor_map};
use handover_ingest::exact::ExactAmount;
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

    /// Those that are not sent and for which a fee is owed.
    pub(crate) fn charged_others(&self) -> impl Iterator<Item = &QuoteLine> {
        let is_charged = self.body.rate_bps > 0;
        self.others.iter().filter(move |line| is_charged && line.price.is_some() && line.charged_by.is_none())
    }
}

/// Tests that are not sent as a quote names them: those that were charged before count nothing.
pub(crate) fn summed<'a>(
    others: impl IntoIterator<Item = &'a QuoteLine>,
    currency: Currency,
) -> Result<Option<OtherTests>, Code> {
    let others: Vec<_> = others.into_iter().filter(|line| line.charged_by.is_none()).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let tests = u32::try_from(others.len()).map_err(|_| Code::TooLarge)?;
    let (basis, unpriced) = sum(others)?;
    let basis = basis.to_decimal_string(currency);
    Ok(Some(OtherTests { tests, unpriced, basis, extensions: Extensions::default() }))
}

/// The exact sum of the lines' prices, and how many have none and were not charged before.
pub(crate) fn sum<'a>(lines: impl IntoIterator<Item = &'a QuoteLine>) -> Result<(ExactAmount, u32), Code> {
    let (mut basis, mut unpriced) = (ExactAmount::ZERO, 0_u32);
    for line in lines {
        match (&line.price, line.charged_by) {
            (None, Some(_)) => {}
            (Some(_), Some(_)) => return Err(Code::QuoteFalse),
            (None, None) => unpriced = unpriced.saturating_add(1),
            (Some(price), None) => {
                basis = basis.checked_add(exactly(price)?).ok_or(Code::QuoteFalse)?;
            }
        }
    }
    Ok((basis, unpriced))
}

/// A price as a line says it.
pub(crate) fn exactly(price: &str) -> Result<ExactAmount, Code> {
    price.parse().map_err(|_| Code::QuoteFalse)
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

/// Whether a body is the one that a quote commits to.
pub(crate) fn is_of(body: &QuoteBody, quote: &Quote) -> bool {
    Digest::sha256(&[&codec::encode(body)]) == quote.commitment
}
