//! Break-glass: who may ask, for how long, and what belongs to what.
//!
//! Certificates are judged at the time of what they sign, so evidence goes on verifying. Whether a certificate was
//! withdrawn, its own hospital knows: it signs nothing for whom it has withdrawn.

use super::{Context, ensure, read};
use crate::artefact::break_glass::{
    BreakGlass, BreakGlassAnswer, BreakGlassDetails, BreakGlassMore, BreakGlassNote, BreakGlassReading,
    BreakGlassReview, CLINICIAN_MAX_LIFE_MS, ClinicianCertificate, PIECES_MAX, WINDOW_MAX_MS,
};
use crate::artefact::patient::CLOCK_SKEW_MS;
use crate::artefact::{Countersigned, SignatureVerifier, Signed, Verified};
use crate::codec::{self, MAX_MESSAGE_BYTES};
use crate::id::{Digest, HospitalId, SigningPublic};
use crate::time::{DAY_MS, MINUTE_MS};
use crate::trust::{Federation, Member};
use crate::{Code, Timestamp};

/// How long after its directory expired a hospital still serves emergencies, in milliseconds.
pub const EMERGENCY_AFTER_EXPIRY_MS: i64 = 7 * DAY_MS;
/// How long a signed wish to read is good, in milliseconds.
const READING_LIFE_MS: i64 = 5 * MINUTE_MS;

/// A break-glass that verified, with who signed it.
#[derive(Clone, Debug)]
pub struct Broken {
    /// What is asked.
    pub request: Verified<BreakGlass>,
    /// The clinician who asks.
    pub clinician: ClinicianCertificate,
}

/// A hospital that takes part in emergencies now: on a directory that has expired, too, for seven days, but never one
/// that is known as suspended or revoked. A forked directory serves: no member of it is invented, and whoever forks
/// one must not be able to shut emergencies off.
///
/// # Errors
/// [`Code::DirectoryExpired`]; as [`Federation::active`].
pub fn emergency_member<'f>(
    federation: &'f Federation,
    hospital: &HospitalId,
    now: Timestamp,
) -> Result<&'f Member, Code> {
    let ends = federation.directory().expires.plus_ms(EMERGENCY_AFTER_EXPIRY_MS);
    ensure(now < ends, Code::DirectoryExpired)?;
    federation.active(hospital, now)
}

/// A clinician's certificate by their hospital's key, valid at a time.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn clinician(
    envelope: &[u8],
    hospital: &HospitalId,
    key: &SigningPublic,
    at: Timestamp,
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<ClinicianCertificate>, Code> {
    let certificate = read::<ClinicianCertificate>(envelope)?;
    let certificate = certificate.verify(key, verifier).map_err(|fault| fault.code())?;
    ensure(certificate.hospital == *hospital, Code::WrongSigner)?;
    let life_ms = certificate.not_after.since_ms(certificate.not_before);
    ensure((1..=CLINICIAN_MAX_LIFE_MS).contains(&life_ms) && certificate.is_readable(), Code::Malformed)?;
    let is_valid = certificate.not_before <= at.plus_ms(CLOCK_SKEW_MS) && at < certificate.not_after;
    ensure(is_valid, Code::CertificateExpired)?;
    Ok(certificate)
}

/// A break-glass as its clinician signed it, under the key of their hospital; with the clinician's certificate.
fn claim(
    signed: Signed<BreakGlass>,
    key: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<Broken, Code> {
    let claimed = signed.claim();
    let certificate =
        clinician(claimed.certificate.as_ref(), &claimed.requesting, key, claimed.issued, verifier)?;
    let request = signed.verify(&certificate.key, verifier).map_err(|fault| fault.code())?;
    let window_ms = request.until.since_ms(request.issued);
    ensure((1..=WINDOW_MAX_MS).contains(&window_ms), Code::BreakGlassMismatch)?;
    ensure(request.source.as_ref() != Some(&request.requesting), Code::BreakGlassMismatch)?;
    ensure(request.source.is_some() == request.sealed_to_source.is_some(), Code::BreakGlassMismatch)?;
    // Only the index finds by the reference alone.
    ensure(request.source.is_some() || request.patient.is_some(), Code::BreakGlassMismatch)?;
    Ok(Broken { request, clinician: (*certificate).clone() })
}

/// A break-glass by clinician and hospital; the envelope holds both signatures, or the clinician's alone before the
/// hospital has signed. `key` is the hospital's.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn break_glass(
    envelope: &[u8],
    key: &SigningPublic,
    is_countersigned: bool,
    verifier: &dyn SignatureVerifier,
) -> Result<Broken, Code> {
    if !is_countersigned {
        return claim(read(envelope)?, key, verifier);
    }
    let outer = Countersigned::<BreakGlass>::read(envelope).map_err(|fault| fault.code())?;
    let broken = claim(read(outer.first())?, key, verifier)?;
    outer.verify(&broken.clinician.key, key, verifier).map_err(|fault| fault.code())?;
    Ok(broken)
}

/// Whether it may be asked and read now.
///
/// # Errors
/// [`Code::BreakGlassOver`]; [`Code::ClockOff`] for one from the future.
pub fn break_glass_in_time(request: &BreakGlass, now: Timestamp) -> Result<(), Code> {
    ensure(request.issued <= now.plus_ms(CLOCK_SKEW_MS), Code::ClockOff)?;
    ensure(now < request.until, Code::BreakGlassOver)
}

/// The opened details of a break-glass.
///
/// # Errors
/// [`Code::BreakGlassMismatch`] if they are not those that were signed, or name nobody; [`Code::Malformed`] if no desk
/// can show them.
pub fn break_glass_details(plain: &[u8], request: &BreakGlass) -> Result<BreakGlassDetails, Code> {
    ensure(Digest::sha256(&[plain]) == request.details, Code::BreakGlassMismatch)?;
    let details: BreakGlassDetails = codec::decode(plain, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
    ensure(details.is_readable(), Code::Malformed)?;
    ensure(details.demographics.is_some() != request.patient.is_some(), Code::BreakGlassMismatch)?;
    Ok(details)
}

/// A second clinician's signature for everything; with their certificate.
///
/// # Errors
/// [`Code::SamePerson`] for the one who broke the glass; [`Code`] naming any other cause.
pub fn break_glass_more(
    envelope: &[u8],
    broken: &Broken,
    key: &SigningPublic,
    is_countersigned: bool,
    verifier: &dyn SignatureVerifier,
) -> Result<(Verified<BreakGlassMore>, ClinicianCertificate), Code> {
    let outer = match is_countersigned {
        true => Some(Countersigned::<BreakGlassMore>::read(envelope).map_err(|fault| fault.code())?),
        false => None,
    };
    let first = outer.as_ref().map_or(envelope, Countersigned::first);
    let more = read::<BreakGlassMore>(first)?;
    let (issued, requesting) = (more.claim().issued, &broken.request.requesting);
    let second = clinician(more.claim().certificate.as_ref(), requesting, key, issued, verifier)?;
    let more = more.verify(&second.key, verifier).map_err(|fault| fault.code())?;
    if let Some(outer) = outer {
        outer.verify(&second.key, key, verifier).map_err(|fault| fault.code())?;
    }
    let belongs = more.id == broken.request.id
        && more.break_glass == broken.request.hash()
        && more.issued < broken.request.until;
    ensure(belongs, Code::BreakGlassMismatch)?;
    // A person can have two keys, but not two names.
    let is_same = second.key == broken.clinician.key || is_one_name(&second.name, &broken.clinician.name);
    ensure(!is_same, Code::SamePerson)?;
    Ok((more, (*second).clone()))
}

/// Whether two names are one, however they are written.
#[must_use]
pub fn is_one_name(one: &str, other: &str) -> bool {
    let words = |name: &str| name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    words(one) == words(other)
}

/// A source's answer to what was asked with `asked`.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn break_glass_answer(
    envelope: &[u8],
    request: &BreakGlass,
    asked: &Digest,
    context: Context<'_>,
) -> Result<Verified<BreakGlassAnswer>, Code> {
    let source = request.source.as_ref().ok_or(Code::BreakGlassMismatch)?;
    let answer =
        context.federation.verify_from(source, read::<BreakGlassAnswer>(envelope)?, context.verifier)?;
    let belongs = answer.id == request.id && answer.asked == *asked && answer.source == *source;
    let is_whole = match (&answer.given, answer.reason) {
        (Some(given), None) => (1..=PIECES_MAX).contains(&given.pieces.len()),
        (None, Some(_)) => true,
        _ => false,
    };
    ensure(belongs && is_whole, Code::BreakGlassMismatch)?;
    Ok(answer)
}

/// The asking hospital's review.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn break_glass_review(
    envelope: &[u8],
    request: &Verified<BreakGlass>,
    context: Context<'_>,
) -> Result<Verified<BreakGlassReview>, Code> {
    let review = read::<BreakGlassReview>(envelope)?;
    let review = context.federation.verify_from(&request.requesting, review, context.verifier)?;
    let belongs = review.id == request.id
        && review.break_glass == request.hash()
        && review.hospital == request.requesting
        && review.issued.plus_ms(CLOCK_SKEW_MS) >= request.issued;
    ensure(belongs, Code::BreakGlassMismatch)?;
    Ok(review)
}

/// What a hospital tells the index of one that it takes part in.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn break_glass_note(
    envelope: &[u8],
    teller: &HospitalId,
    context: Context<'_>,
) -> Result<Verified<BreakGlassNote>, Code> {
    let note = read::<BreakGlassNote>(envelope)?;
    let note = context.federation.verify_from(teller, note, context.verifier)?;
    let takes_part = note.requesting == *teller || note.source.as_ref() == Some(teller);
    ensure(takes_part && (note.source.is_some() || note.patient.is_some()), Code::BreakGlassMismatch)?;
    Ok(note)
}

/// A clinician's signed wish to read what came, now; with their certificate. `key` is the hospital's.
///
/// # Errors
/// [`Code`] naming the cause; [`Code::ClockOff`] if it is too old or from the future.
pub fn break_glass_reading(
    envelope: &[u8],
    hospital: &HospitalId,
    key: &SigningPublic,
    now: Timestamp,
    verifier: &dyn SignatureVerifier,
) -> Result<(Verified<BreakGlassReading>, ClinicianCertificate), Code> {
    let reading = read::<BreakGlassReading>(envelope)?;
    let certificate = clinician(reading.claim().certificate.as_ref(), hospital, key, now, verifier)?;
    let reading = reading.verify(&certificate.key, verifier).map_err(|fault| fault.code())?;
    ensure(now.since_ms(reading.issued).abs() <= READING_LIFE_MS, Code::ClockOff)?;
    Ok((reading, (*certificate).clone()))
}
