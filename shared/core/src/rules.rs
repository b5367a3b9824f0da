//! What must hold between the artefacts of one transfer. Each rule is written once: source, destination, index and
//! whoever verifies a transfer from its file apply the same.
//!
//! A rule checks signatures and that an artefact belongs to those before it. Whether a hospital takes part *now*,
//! and whether a consent is spent or revoked, is for those who decide (see [`crate::trust::Federation::active`]).

use crate::artefact::patient::{
    Ask, AskKind, CLOCK_SKEW_MS, Consent, ConsentMode, PatientLink, PatientRefusal, Revocation, ShareRelease,
    link_code_proof,
};
use crate::artefact::transfer::{
    CONSENT_MAX_LIFE_MS, Delivered, KeyRelease, NextAttempt, PACKAGE_MAX_CONTENTS, PackageHeader, PartList,
    Payer, Quote, Receipt, Refusal, RevocationConfirmed, Step, TransferRequest,
};
use crate::artefact::{Countersigned, Payload, SignatureVerifier, Signed, Verified};
use crate::id::{Digest, HospitalId, TransferId};
use crate::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT, Phase, State};
use crate::trust::Federation;
use crate::{Code, KeyChain, Timestamp};

mod books;
mod break_glass;
mod continuous;
mod fee;
mod recall;
mod remote;

pub use books::{OpenedPage, continues, hold_order, ledger_page};
pub use break_glass::{
    Broken, EMERGENCY_AFTER_EXPIRY_MS, break_glass, break_glass_answer, break_glass_details,
    break_glass_in_time, break_glass_more, break_glass_note, break_glass_reading, break_glass_review,
    clinician, emergency_member, is_one_name,
};
pub use continuous::{REVOCATIONS_STALE_MS, delivery, revocations_fresh, within_cap};
pub use fee::{Cover, fee_acceptance, fee_terms, payer, quote_rate, referral, schedule};
pub use recall::{fee_back, recall, recall_confirmed, recall_details};
pub use remote::{
    remote_link, remote_link_answer, remote_link_claim, remote_link_details, remote_link_in_time,
};

/// What verifying needs: everybody's keys, and how to check a signature.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The verified directory.
    pub federation: &'a Federation,
    /// Checks signatures.
    pub verifier: &'a dyn SignatureVerifier,
}

fn read<T: Payload>(envelope: &[u8]) -> Result<Signed<T>, Code> {
    Signed::read(envelope).map_err(|fault| fault.code())
}

fn ensure(holds: bool, code: Code) -> Result<(), Code> {
    if holds { Ok(()) } else { Err(code) }
}

/// A patient's question of the wanted kind, by their own key. Its time is checked by [`ask_in_time`].
///
/// # Errors
/// [`Code`] naming the cause.
pub fn ask(envelope: &[u8], kind: AskKind, verifier: &dyn SignatureVerifier) -> Result<Verified<Ask>, Code> {
    let ask = read::<Ask>(envelope)?;
    let keys = KeyChain::of(&ask.claim().key_records, &ask.claim().patient, verifier)?;
    let ask = ask.verify(&keys.newest().signing_key, verifier).map_err(|fault| fault.code())?;
    ensure(ask.kind == kind, Code::AskMismatch)?;
    ensure(ask.expires.since_ms(ask.issued) <= kind.life_ms(), Code::AskExpired)?;
    Ok(ask)
}

/// Whether a question is good now.
///
/// # Errors
/// [`Code::AskExpired`]; [`Code::ClockOff`] if it is from the future.
pub fn ask_in_time(ask: &Ask, now: Timestamp) -> Result<(), Code> {
    ensure(ask.issued <= now.plus_ms(CLOCK_SKEW_MS), Code::ClockOff)?;
    ensure(now < ask.expires, Code::AskExpired)
}

/// A patient's link as they signed it for a hospital. The code is compared by [`link_code`].
///
/// # Errors
/// [`Code`] naming the cause.
pub fn link_claim(
    envelope: &[u8],
    hospital: &HospitalId,
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<PatientLink>, Code> {
    let link = read::<PatientLink>(envelope)?;
    let keys = KeyChain::of(&link.claim().key_records, &link.claim().patient, verifier)?;
    let link = link.verify(&keys.newest().signing_key, verifier).map_err(|fault| fault.code())?;
    ensure(link.hospital == *hospital, Code::AskMismatch)?;
    Ok(link)
}

/// Whether a link was made with the desk's code.
#[must_use]
pub fn link_code(link: &PatientLink, code: &str) -> bool {
    link.code_proof == link_code_proof(code, &link.patient, &link.hospital)
}

/// A link that its hospital countersigned.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn link(envelope: &[u8], context: Context<'_>) -> Result<Verified<PatientLink>, Code> {
    let link = Countersigned::<PatientLink>::read(envelope).map_err(|fault| fault.code())?;
    let claim = link.claim();
    let keys = KeyChain::of(&claim.key_records, &claim.patient, context.verifier)?;
    let hospital = context.federation.member(&claim.hospital)?.key(link.kids().1);
    link.verify(&keys.newest().signing_key, &hospital, context.verifier).map_err(|fault| fault.code())
}

/// A request with the ask that it stands on.
#[derive(Clone, Debug)]
pub struct RequestEvidence {
    /// The request.
    pub request: Verified<TransferRequest>,
    /// The patient's ask.
    pub ask: Verified<Ask>,
    /// The patient's keys.
    pub keys: KeyChain,
}

/// A destination's request: its own signature, and the patient's ask for exactly this transfer.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn request(envelope: &[u8], context: Context<'_>) -> Result<RequestEvidence, Code> {
    let request = read::<TransferRequest>(envelope)?;
    let destination = request.claim().destination.clone();
    let request = context.federation.verify_from(&destination, request, context.verifier)?;
    let ask = ask(request.ask.as_ref(), AskKind::Transfer, context.verifier)?;
    let same = ask.transfer == Some(request.transfer)
        && ask.source.as_ref() == Some(&request.source)
        && ask.destination.as_ref() == Some(&request.destination)
        && request.source != request.destination;
    ensure(same, Code::AskMismatch)?;
    let keys = KeyChain::of(&ask.key_records, &ask.patient, context.verifier)?;
    Ok(RequestEvidence { request, ask, keys })
}

/// A source's quote for a request. A final quote names the one that it narrows.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn quote(envelope: &[u8], on: &RequestEvidence, context: Context<'_>) -> Result<Verified<Quote>, Code> {
    let quote =
        context.federation.verify_from(&on.request.source, read::<Quote>(envelope)?, context.verifier)?;
    let same = quote.transfer == on.request.transfer
        && quote.patient == on.ask.patient
        && quote.source == on.request.source
        && quote.destination == on.request.destination
        && quote.request == on.request.hash()
        && quote.request_key == on.request.request_key
        && priced_in_time(&quote);
    ensure(same && quote.continues.is_none(), Code::QuoteMismatch)?;
    ensure(quote.referral.is_some() == quote.sealed_to_payer.is_some(), Code::QuoteMismatch)?;
    if let Some(envelope) = &quote.referral {
        referral(envelope.as_ref(), &quote, context)?;
    }
    Ok(quote)
}

/// Whether a quote is priced when it was made; one that narrows another has that one's time, see [`narrowing`].
fn priced_in_time(quote: &Quote) -> bool {
    quote.narrows.is_some() || quote.priced == quote.issued
}

/// The quote that follows a narrower consent, or what others have charged since: about the same transfer, paid by the
/// same, at the same prices.
///
/// # Errors
/// [`Code::QuoteMismatch`].
pub fn narrowing(quote: &Quote, first: &Verified<Quote>) -> Result<(), Code> {
    let same = quote.referral == first.referral && quote.priced == first.priced;
    ensure(same && quote.narrows == Some(first.hash()), Code::QuoteMismatch)
}

/// A patient's consent to a quote.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn consent(
    envelope: &[u8],
    on: &RequestEvidence,
    quote: &Verified<Quote>,
    context: Context<'_>,
) -> Result<Verified<Consent>, Code> {
    let consent = read::<Consent>(envelope)?
        .verify(&on.keys.newest().signing_key, context.verifier)
        .map_err(|fault| fault.code())?;
    ensure(consent.quote == quote.hash(), Code::QuoteMismatch)?;
    ensure(consent.issued < quote.expires, Code::QuoteExpired)?;
    let destination = context.federation.member(&on.request.destination)?;
    let same = consent.transfer == on.request.transfer
        && consent.patient == on.ask.patient
        && consent.key_record == on.keys.hash();
    ensure(same, Code::ConsentMismatch)?;
    ensure(consent.fee_cap.minor() >= 0, Code::Malformed)?;
    let between = consent.source == on.request.source && consent.destination == on.request.destination;
    ensure(between, Code::ConsentForAnother)?;
    // Whoever succeeds to the key that the patient named inherits the consent.
    ensure(destination.has(&consent.destination_key), Code::ConsentKey)?;
    let life_ms = consent.expires.since_ms(consent.not_before);
    ensure(life_ms > 0 && life_ms <= CONSENT_MAX_LIFE_MS, Code::ConsentPeriod)?;
    let is_referred = payer(quote) == Payer::Hospital;
    ensure(consent.mode == ConsentMode::OneTime || !is_referred, Code::ContinuousReferred)?;
    Ok(consent)
}

/// Whether a consent is good now.
///
/// # Errors
/// [`Code::ConsentEarly`], [`Code::ConsentExpired`].
pub fn consent_in_time(consent: &Consent, now: Timestamp) -> Result<(), Code> {
    ensure(consent.not_before <= now.plus_ms(CLOCK_SKEW_MS), Code::ConsentEarly)?;
    ensure(now < consent.expires, Code::ConsentExpired)
}

/// A transfer's package header under a consent and the quote that it follows (the consented one, or the final one that
/// narrows it), within what the payer signed.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn header(
    envelope: &[u8],
    transfer: TransferId,
    consent: &Verified<Consent>,
    cover: &Cover,
    context: Context<'_>,
) -> Result<Verified<PackageHeader>, Code> {
    let header = context.federation.verify_from(
        &consent.source,
        read::<PackageHeader>(envelope)?,
        context.verifier,
    )?;
    let same = header.transfer == transfer
        && header.source == consent.source
        && header.destination == consent.destination
        && header.consent == consent.hash()
        && header.attempt >= FIRST_ATTEMPT;
    ensure(same, Code::HeaderMismatch)?;
    ensure(header.attempt <= LAST_ATTEMPT, Code::AttemptsExhausted)?;
    consent_in_time(consent, header.issued)?;
    ensure(header.fee.minor() >= 0, Code::Malformed)?;
    ensure(header.payer == cover.payer, Code::CapExceeded)?;
    cover.holds(header.fee)?;
    Ok(header)
}

/// Whether a header follows its transfer's first quote, or the final one that narrows it, and asks nothing of who may
/// not be charged.
///
/// # Errors
/// [`Code::QuoteMismatch`], [`Code::QuoteFalse`].
pub fn header_quote(
    header: &PackageHeader,
    quote: &Verified<Quote>,
    first: &Digest,
    context: Context<'_>,
) -> Result<(), Code> {
    let hash = quote.hash();
    let allowed = header.transfer == quote.transfer && (hash == *first || quote.narrows == Some(*first));
    ensure(header.quote == hash && allowed, Code::QuoteMismatch)?;
    let free = fee::schedule(quote, context)?.rate_for(header.payer) == 0;
    ensure(!free || header.fee.minor() == 0, Code::QuoteFalse)
}

/// Whether a header asks for what another attempt's did: one transfer has one quote and one fee.
///
/// # Errors
/// [`Code::QuoteMismatch`].
pub fn same_fee(header: &PackageHeader, other: &PackageHeader) -> Result<(), Code> {
    let same = header.quote == other.quote && header.fee == other.fee && header.payer == other.payer;
    ensure(same, Code::QuoteMismatch)
}

/// The destination asks for a transfer's next attempt, while the consent holds.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn next_attempt(
    envelope: &[u8],
    transfer: TransferId,
    consent: &Verified<Consent>,
    context: Context<'_>,
) -> Result<Verified<NextAttempt>, Code> {
    let next = context.federation.verify_from(
        &consent.destination,
        read::<NextAttempt>(envelope)?,
        context.verifier,
    )?;
    let same = next.transfer == transfer && next.consent == consent.hash() && next.attempt > FIRST_ATTEMPT;
    ensure(same, Code::AttemptMismatch)?;
    ensure(next.attempt <= LAST_ATTEMPT, Code::AttemptsExhausted)?;
    consent_in_time(consent, next.issued)?;
    Ok(next)
}

/// Whether these are the parts that a header commits to.
///
/// # Errors
/// [`Code::TooLarge`], [`Code::PackageMismatch`].
pub fn parts(parts: &PartList, header: &PackageHeader) -> Result<(), Code> {
    ensure(parts.contents.len() <= PACKAGE_MAX_CONTENTS, Code::TooLarge)?;
    ensure(parts.commitment() == header.parts, Code::PackageMismatch)
}

/// The destination has what the header lists.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn delivered(
    envelope: &[u8],
    header: &Verified<PackageHeader>,
    context: Context<'_>,
) -> Result<Verified<Delivered>, Code> {
    let delivered = context.federation.verify_from(
        &header.destination,
        read::<Delivered>(envelope)?,
        context.verifier,
    )?;
    let same = delivered.transfer == header.transfer
        && delivered.attempt == header.attempt
        && delivered.destination == header.destination
        && delivered.header == header.hash();
    ensure(same, Code::DeliveredMismatch)?;
    Ok(delivered)
}

/// The hash over the encoded sealed shares, as a header commits to it.
#[must_use]
pub fn shares_hash(shares: &[u8]) -> Digest {
    Digest::sha256(&[b"handover/1/sealed-shares", shares])
}

/// The source releases the shares that the header commits to.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn key_release(
    envelope: &[u8],
    header: &Verified<PackageHeader>,
    context: Context<'_>,
) -> Result<Verified<KeyRelease>, Code> {
    let release =
        context.federation.verify_from(&header.source, read::<KeyRelease>(envelope)?, context.verifier)?;
    let same = release.transfer == header.transfer
        && release.attempt == header.attempt
        && release.header == header.hash()
        && shares_hash(release.shares.as_ref()) == header.shares;
    ensure(same, Code::SharesMismatch)?;
    Ok(release)
}

/// The patient releases the grant key for a consent. Whether to a key that the destination asked for, those say who
/// know its requests.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn share_release(
    envelope: &[u8],
    consent: &Verified<Consent>,
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<ShareRelease>, Code> {
    let release =
        read::<ShareRelease>(envelope)?.verify(consent.signer(), verifier).map_err(|fault| fault.code())?;
    let same = release.transfer == consent.transfer
        && release.consent == consent.hash()
        && release.patient == consent.patient
        && release.destination == consent.destination;
    ensure(same, Code::ReleaseMismatch)?;
    Ok(release)
}

/// The destination has filed what the header lists.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn receipt(
    envelope: &[u8],
    header: &Verified<PackageHeader>,
    context: Context<'_>,
) -> Result<Verified<Receipt>, Code> {
    let receipt =
        context.federation.verify_from(&header.destination, read::<Receipt>(envelope)?, context.verifier)?;
    let same = receipt.transfer == header.transfer
        && receipt.attempt == header.attempt
        && receipt.header == header.hash()
        && receipt.consent == header.consent
        && receipt.record_root == header.record_root;
    ensure(same, Code::ReceiptMismatch)?;
    Ok(receipt)
}

/// Whether a revocation takes this consent back.
///
/// # Errors
/// [`Code::RevocationMismatch`].
pub fn revocation(revocation: &Revocation, consent: &Verified<Consent>) -> Result<(), Code> {
    let same = revocation.transfer == consent.transfer
        && revocation.consent == consent.hash()
        && Digest::sha256(&[&revocation.preimage]) == consent.revocation;
    ensure(same, Code::RevocationMismatch)
}

/// A hospital's no to a transfer; either of the two may say it.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn refusal(
    envelope: &[u8],
    transfer: TransferId,
    on: &RequestEvidence,
    context: Context<'_>,
) -> Result<Verified<Refusal>, Code> {
    let refusal = read::<Refusal>(envelope)?;
    ensure(refusal.claim().transfer == transfer, Code::AskMismatch)?;
    by_either(refusal, on, context)
}

/// A holder's confirmation that it has taken a revocation in.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn revocation_confirmed(
    envelope: &[u8],
    consent: &Verified<Consent>,
    context: Context<'_>,
) -> Result<Verified<RevocationConfirmed>, Code> {
    let confirmed = read::<RevocationConfirmed>(envelope)?;
    let by = confirmed.claim().by.clone();
    let same = confirmed.claim().transfer == consent.transfer
        && confirmed.claim().consent == consent.hash()
        && (by == consent.source || by == consent.destination);
    ensure(same, Code::RevocationMismatch)?;
    context.federation.verify_from(&by, confirmed, context.verifier)
}

fn by_either<T: Payload>(
    signed: Signed<T>,
    on: &RequestEvidence,
    context: Context<'_>,
) -> Result<Verified<T>, Code> {
    let source = context.federation.member(&on.request.source)?;
    let by = if source.has(signed.kid()) { &on.request.source } else { &on.request.destination };
    context.federation.verify_from(by, signed, context.verifier)
}

/// How a refusal ends its transfer: before the release it is a no, what cannot be filed after it has failed, unless it is
/// not opened because the patient took the consent back.
#[must_use]
pub fn ended_by(refusal: &Refusal) -> State {
    let phase = match (refusal.step, refusal.code) {
        (Step::Filing, Code::ConsentRevoked) => Phase::Revoked,
        (Step::Filing, _) => Phase::Failed,
        _ => Phase::Refused,
    };
    State::exit(phase, refusal.code)
}

/// The patient's no to a transfer they asked for.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn patient_refusal(
    envelope: &[u8],
    on: &RequestEvidence,
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<PatientRefusal>, Code> {
    let refusal = read::<PatientRefusal>(envelope)?
        .verify(&on.keys.newest().signing_key, verifier)
        .map_err(|fault| fault.code())?;
    ensure(refusal.transfer == on.request.transfer && refusal.patient == on.ask.patient, Code::AskMismatch)?;
    Ok(refusal)
}
