//! What is delivered under a continuous consent: each delivery is a transfer of its own, which the source begins with a
//! quote; request, consent and the patient's share are those of the transfer that the consent was given for.

use super::{Context, RequestEvidence, consent_in_time, ensure, priced_in_time, read};
use crate::artefact::Verified;
use crate::artefact::patient::{Consent, ConsentMode};
use crate::artefact::transfer::Quote;
use crate::time::DAY_MS;
use crate::{Amount, Code, Timestamp};

/// A source that has heard of no revocation for so long delivers nothing under continuous consents, in milliseconds.
pub const REVOCATIONS_STALE_MS: i64 = DAY_MS;

/// A source's quote for a delivery under a continuous consent, with the request of the transfer that it continues. The
/// patient pays, whoever has referred them since.
///
/// # Errors
/// [`Code::ConsentSpent`] for a one-time consent; [`Code`] naming the cause.
pub fn delivery(
    envelope: &[u8],
    on: &RequestEvidence,
    consent: &Verified<Consent>,
    context: Context<'_>,
) -> Result<Verified<Quote>, Code> {
    let quote =
        context.federation.verify_from(&consent.source, read::<Quote>(envelope)?, context.verifier)?;
    let continues = quote.continues.as_ref().ok_or(Code::QuoteMismatch)?;
    let same = continues.consent == consent.hash()
        && continues.origin == consent.transfer
        && quote.transfer != consent.transfer
        && quote.patient == consent.patient
        && quote.source == consent.source
        && quote.destination == consent.destination
        && quote.request == on.request.hash()
        && quote.request_key == on.request.request_key
        && priced_in_time(&quote)
        && quote.referral.is_none()
        && quote.sealed_to_payer.is_none();
    ensure(same, Code::QuoteMismatch)?;
    ensure(consent.mode == ConsentMode::Continuous, Code::ConsentSpent)?;
    consent_in_time(consent, quote.issued)?;
    Ok(quote)
}

/// Whether a fee is within a consent's cap together with those that stand under it already. Nothing is within any.
///
/// # Errors
/// [`Code::CapReached`].
pub fn within_cap(consent: &Consent, standing: &[Amount], fee: Amount) -> Result<(), Code> {
    if fee.minor() == 0 {
        return Ok(());
    }
    let cap = consent.fee_cap;
    let sum = standing.iter().try_fold(fee, |sum, other| sum.checked_add(*other).ok());
    let within = sum.is_some_and(|sum| sum.currency() == cap.currency() && sum.minor() <= cap.minor());
    ensure(within, Code::CapReached)
}

/// Whether what is known of revocations, as of the directory that is held, is fresh enough to begin a delivery.
///
/// # Errors
/// [`Code::RevocationsStale`].
pub fn revocations_fresh(directory_issued: Timestamp, now: Timestamp) -> Result<(), Code> {
    ensure(now.since_ms(directory_issued) <= REVOCATIONS_STALE_MS, Code::RevocationsStale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_the_index_is_too_long() {
        let at = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(revocations_fresh(at, at.plus_ms(REVOCATIONS_STALE_MS)), Ok(()));
        let late = revocations_fresh(at, at.plus_ms(REVOCATIONS_STALE_MS + 1));
        assert_eq!(late, Err(Code::RevocationsStale));
    }
}
