//! A fee that this hospital owes, because the patient was referred to it: what it is told of it before the package,
//! and its word that it pays.

use std::collections::BTreeSet;

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{FeeAcceptance, FeeOffer, OtherTests, Quote, QuoteBody};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{FEE_OFFER_LABEL, part_binding};
use handover_core::{Amount, Code, Timestamp, TransferId};
use handover_ingest::exact::{self, ExactAmount};
use handover_seal::part::{open_part, seal_part};
use handover_seal::{KeyRing, OsRandom, RsaPublicKey, SealError, SigningKey};

use crate::ExchangeError;

/// Seals the fee to the hospital that owes it.
pub(crate) fn seal_offer(
    fee: Amount,
    transfer: &TransferId,
    payer: &RsaPublicKey,
) -> Result<Vec<u8>, SealError> {
    let offer = codec::encode(&FeeOffer { fee, extensions: Extensions::default() });
    seal_part(payer, &part_binding(FEE_OFFER_LABEL, transfer), &offer, &mut OsRandom)
}

/// The fee that this hospital would owe.
///
/// # Errors
/// [`Code::QuoteMismatch`] for a quote that others pay; what opening fails with.
pub(crate) fn offered(quote: &Quote, ring: &KeyRing) -> Result<Amount, ExchangeError> {
    let sealed = quote.sealed_to_payer.as_ref().ok_or(Code::QuoteMismatch)?;
    let plain = open_part(ring, &part_binding(FEE_OFFER_LABEL, &quote.transfer), sealed.as_ref())?;
    let offer: FeeOffer = codec::decode(&plain, MAX_MESSAGE_BYTES)?;
    Ok(offer.fee)
}

/// Signs that this hospital pays for what was quoted, up to `cap`.
pub(crate) fn accept(
    quote: &Verified<Quote>,
    cap: Amount,
    signing: &SigningKey,
    now: Timestamp,
) -> Verified<FeeAcceptance> {
    let acceptance = FeeAcceptance {
        transfer: quote.transfer,
        quote: quote.hash(),
        cap,
        issued: now,
        extensions: Extensions::default(),
    };
    Verified::sign(acceptance, signing)
}

/// Tests that were recalled, so that no fee is owed for them.
#[derive(Default)]
pub(crate) struct Gone {
    /// Of the quote's lines, by their records.
    pub(crate) lines: BTreeSet<String>,
    /// The sum of its other tests.
    others: ExactAmount,
}

impl Gone {
    /// Other tests, too. A sum that is none counts nothing: the fee that is given back differs then, which is told.
    pub(crate) fn add_others(&mut self, others: &OtherTests) {
        let sum = others.basis.parse().ok().filter(|sum: &ExactAmount| !sum.is_negative());
        self.others = sum.and_then(|sum| self.others.checked_add(sum)).unwrap_or(self.others);
    }
}

/// What the fee of a quote comes to without these tests, at its own rate. No more of its other tests can be gone than
/// there were.
///
/// # Errors
/// [`Code::QuoteFalse`] if its lines are no prices.
pub(crate) fn without(body: &QuoteBody, gone: &Gone) -> Result<Amount, Code> {
    let others = body.other_tests.as_ref().map_or(Ok(ExactAmount::ZERO), |others| others.basis.parse());
    let others: ExactAmount = others.map_err(|_| Code::QuoteFalse)?;
    let left = others.checked_sub(gone.others).filter(|left| !left.is_negative());
    let mut basis = left.unwrap_or(ExactAmount::ZERO);
    for price in
        body.lines.iter().filter(|line| !gone.lines.contains(&line.record)).filter_map(|it| it.price.as_ref())
    {
        let price: ExactAmount = price.parse().map_err(|_| Code::QuoteFalse)?;
        basis = basis.checked_add(price).ok_or(Code::QuoteFalse)?;
    }
    exact::fee(basis, body.rate_bps, body.fee.currency()).map_err(|_| Code::QuoteFalse)
}

/// Whether a fee is accepted without asking anybody.
pub(crate) fn is_within(limit: Option<Amount>, fee: Amount) -> bool {
    let nothing = fee.minor() == 0;
    nothing || limit.is_some_and(|limit| limit.currency() == fee.currency() && fee.minor() <= limit.minor())
}
