//! Remote links: who may ask, vouch and answer.

use super::{Context, ensure, read};
use crate::artefact::patient::CLOCK_SKEW_MS;
use crate::artefact::remote::{
    REMOTE_LINK_LIFE_MS, RemoteLinkAnswer, RemoteLinkDetails, RemoteLinkRequest, RemoteLinkState,
};
use crate::artefact::{Countersigned, SignatureVerifier, Verified};
use crate::codec::{self, MAX_MESSAGE_BYTES};
use crate::id::{Digest, HospitalId};
use crate::{Code, KeyChain, Timestamp};

/// A patient's request as they signed it, for `vouching` to vouch for. Its time is checked by
/// [`remote_link_in_time`].
///
/// # Errors
/// [`Code`] naming the cause.
pub fn remote_link_claim(
    envelope: &[u8],
    vouching: &HospitalId,
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<RemoteLinkRequest>, Code> {
    let request = read::<RemoteLinkRequest>(envelope)?;
    let claim = request.claim();
    let keys = KeyChain::of(&claim.key_records, &claim.patient, verifier)?;
    let request = request.verify(&keys.newest().signing_key, verifier).map_err(|fault| fault.code())?;
    ensure(request.vouching == *vouching && request.hospital != *vouching, Code::AskMismatch)?;
    ensure(request.expires.since_ms(request.issued) <= REMOTE_LINK_LIFE_MS, Code::AskExpired)?;
    Ok(request)
}

/// A request that the hospital it names vouches for.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn remote_link(envelope: &[u8], context: Context<'_>) -> Result<Verified<RemoteLinkRequest>, Code> {
    let vouched = Countersigned::<RemoteLinkRequest>::read(envelope).map_err(|fault| fault.code())?;
    let claim = vouched.claim();
    let vouching = claim.vouching.clone();
    let keys = KeyChain::of(&claim.key_records, &claim.patient, context.verifier)?;
    let key = context.federation.member(&vouching)?.key(vouched.kids().1);
    let request =
        vouched.verify(&keys.newest().signing_key, &key, context.verifier).map_err(|fault| fault.code())?;
    remote_link_claim(request.envelope(), &vouching, context.verifier)
}

/// Whether a request is good now.
///
/// # Errors
/// [`Code::AskExpired`].
pub fn remote_link_in_time(request: &RemoteLinkRequest, now: Timestamp) -> Result<(), Code> {
    ensure(now < request.expires && request.issued <= now.plus_ms(CLOCK_SKEW_MS), Code::AskExpired)
}

/// The opened details of a request.
///
/// # Errors
/// [`Code::AskMismatch`] if they are not those that were signed, or no desk can show them.
pub fn remote_link_details(plain: &[u8], request: &RemoteLinkRequest) -> Result<RemoteLinkDetails, Code> {
    ensure(Digest::sha256(&[plain]) == request.details, Code::AskMismatch)?;
    let details: RemoteLinkDetails = codec::decode(plain, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
    ensure(details.is_readable(), Code::Malformed)?;
    Ok(details)
}

/// The old hospital's answer to a request.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn remote_link_answer(
    envelope: &[u8],
    request: &Verified<RemoteLinkRequest>,
    context: Context<'_>,
) -> Result<Verified<RemoteLinkAnswer>, Code> {
    let answer = read::<RemoteLinkAnswer>(envelope)?;
    let answer = context.federation.verify_from(&request.hospital, answer, context.verifier)?;
    let is_answer = matches!(
        answer.state,
        RemoteLinkState::Confirmed | RemoteLinkState::Linked | RemoteLinkState::Refused
    );
    let same = answer.id == request.id
        && answer.request == request.hash()
        && answer.hospital == request.hospital
        && is_answer
        && answer.reason.is_some() == (answer.state == RemoteLinkState::Refused);
    ensure(same, Code::AskMismatch)?;
    Ok(answer)
}
