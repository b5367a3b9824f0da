//! Who owes the fee of a transfer, and what they signed for.

use super::{Context, ensure, read};
use crate::artefact::Verified;
use crate::artefact::federation::{FeeBasis, FeeSchedule};
use crate::artefact::patient::{CLOCK_SKEW_MS, Consent};
use crate::artefact::transfer::{
    FeeAcceptance, PackageHeader, Payer, Quote, QuoteBody, REFERRAL_MAX_LIFE_MS, Referral,
};
use crate::ledger::{Holder, Terms};
use crate::{Amount, Code};

/// A source's referral of the patient, good when it quoted.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn referral(envelope: &[u8], on: &Quote, context: Context<'_>) -> Result<Verified<Referral>, Code> {
    let referral =
        context.federation.verify_from(&on.source, read::<Referral>(envelope)?, context.verifier)?;
    let same = referral.patient == on.patient
        && referral.source == on.source
        && referral.destination == on.destination;
    // A quote that narrows stands on the first, which was in time.
    let in_time = referral.issued <= on.issued.plus_ms(CLOCK_SKEW_MS)
        && (on.narrows.is_some() || on.issued < referral.expires)
        && referral.expires.since_ms(referral.issued) <= REFERRAL_MAX_LIFE_MS;
    ensure(same && in_time, Code::ReferralMismatch)?;
    Ok(referral)
}

/// Who owes the fee of a quote.
#[must_use]
pub const fn payer(quote: &Quote) -> Payer {
    if quote.referral.is_some() { Payer::Hospital } else { Payer::Patient }
}

/// The fee schedule that a quote stands on: that of the source's jurisdiction when it was priced.
///
/// # Errors
/// [`Code::NoFeeSchedule`]; the member's codes.
pub fn schedule<'a>(quote: &Quote, context: Context<'a>) -> Result<&'a FeeSchedule, Code> {
    let jurisdiction = &context.federation.member(&quote.source)?.profile.jurisdiction;
    context.federation.schedule(jurisdiction, quote.priced).ok_or(Code::NoFeeSchedule)
}

/// A quote's body charges who owes the fee, for what and at the rate that its schedule says.
///
/// # Errors
/// [`Code::QuoteFalse`]; what [`schedule`] says.
pub fn quote_rate(quote: &Quote, body: &QuoteBody, context: Context<'_>) -> Result<(), Code> {
    let schedule = schedule(quote, context)?;
    let rate_holds = schedule.rate_for(body.payer) == body.rate_bps;
    let basis_holds = body.other_tests.is_none() || schedule.basis == FeeBasis::AllTests;
    ensure(rate_holds && basis_holds && body.payer == payer(quote), Code::QuoteFalse)
}

/// The destination's word that it pays for what was quoted.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn fee_acceptance(
    envelope: &[u8],
    quote: &Verified<Quote>,
    context: Context<'_>,
) -> Result<Verified<FeeAcceptance>, Code> {
    let acceptance = context.federation.verify_from(
        &quote.destination,
        read::<FeeAcceptance>(envelope)?,
        context.verifier,
    )?;
    let same = acceptance.transfer == quote.transfer && acceptance.quote == quote.hash();
    ensure(same && payer(quote) == Payer::Hospital, Code::QuoteMismatch)?;
    ensure(acceptance.cap.minor() >= 0, Code::Malformed)?;
    Ok(acceptance)
}

/// What the books have to say of a fee: what its header charges, under what its payer signed for.
#[must_use]
pub fn fee_terms(header: &PackageHeader, consent: &Consent, cover: &Cover) -> Terms {
    // Nothing in another currency than the cap's is still within it.
    let cap = if header.fee.minor() == 0 { Amount::zero(header.fee.currency()) } else { cover.cap };
    Terms {
        transfer: header.transfer,
        source: header.source.clone(),
        destination: header.destination.clone(),
        payer: match cover.payer {
            Payer::Patient => Holder::Patient(consent.patient),
            Payer::Hospital => Holder::Hospital(header.destination.clone()),
        },
        amount: header.fee,
        cap,
    }
}

/// What whoever owes the fee signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Who owes the fee.
    pub payer: Payer,
    /// The most that it may be.
    pub cap: Amount,
}

impl Cover {
    /// The patient's by the consent, a hospital's by its acceptance.
    ///
    /// # Errors
    /// [`Code::FeeNotAccepted`] if the hospital that owes the fee has not signed.
    pub fn of(quote: &Quote, consent: &Consent, acceptance: Option<&FeeAcceptance>) -> Result<Self, Code> {
        let payer = payer(quote);
        let cap = match payer {
            Payer::Patient => consent.fee_cap,
            Payer::Hospital => acceptance.ok_or(Code::FeeNotAccepted)?.cap,
        };
        Ok(Self { payer, cap })
    }

    /// Whether a fee is within it. Nothing is within any.
    ///
    /// # Errors
    /// [`Code::CapExceeded`].
    pub fn holds(&self, fee: Amount) -> Result<(), Code> {
        let within =
            fee.minor() == 0 || fee.currency() == self.cap.currency() && fee.minor() <= self.cap.minor();
        ensure(within, Code::CapExceeded)
    }
}
