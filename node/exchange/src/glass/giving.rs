//! The hospital that is asked: one patient fits, a row and an audit line are durable, then it is given out, sealed to the
//! hospital that asks and to nobody else.

use std::io::Write as _;
use std::sync::{Arc, PoisonError};

use handover_core::artefact::break_glass::{
    BreakGlass, BreakGlassAnswer, BreakGlassMore, BreakGlassReview, EmergencyScope, GivenOut, PIECE_MAX_BYTES,
};
use handover_core::artefact::{Payload, Verified, peek_kid, peek_type};
use handover_core::codec::Bytes;
use handover_core::id::SigningPublic;
use handover_core::rules::{self, Broken};
use handover_core::{BreakGlassId, Code, Digest, HospitalId, Party};
use handover_records::{Action, LocalPatient, Permit, Purpose, Subject};
use handover_seal::break_glass::GlassBinding;
use handover_seal::stream::SealWriter;
use handover_seal::{OsRandom, Remembered, RsaPublicKey, Secret32};
use handover_store::rows;
use tokio::sync::OwnedMutexGuard;

use super::answers::{answer, answer_of, overdue, refuse, throttled};
use super::rows::{InRow, kept};
use super::throttle::{self, Asked};
use super::{
    IN, IN_PIECE, OF_PATIENT, broken, content, details, due_before, due_place, get_piece, grant, matching,
    none, owe, place, put_piece, reviews,
};
use crate::ExchangeError;
use crate::context::Inner;

/// The most bytes of what is asked with.
const REQUEST_MAX_BYTES: usize = 64 * 1024;

/// Takes what a hospital brings: a break-glass, a second person's signature, or a review. Its answer.
///
/// # Errors
/// Why it is not taken.
pub(crate) async fn take(
    inner: &Arc<Inner>,
    party: &Party,
    content: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let Party::Hospital(by) = party else { return Err(Code::AccessDenied.into()) };
    let federation = inner.federation()?;
    rules::emergency_member(&federation, inner.own(), inner.now())?;
    let member = rules::emergency_member(&federation, by, inner.now())?;
    // It brings it itself, so also what it began under a key that it has replaced since.
    let key = member.key(&peek_kid(content).map_err(|fault| fault.code())?);
    if content.len() > REQUEST_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let label = peek_type(content).map_err(|fault| fault.code())?;
    if label == BreakGlassReview::TYPE {
        reviews::take(inner, by, content).await?;
        return Ok(Vec::new());
    }
    if label.starts_with(BreakGlassMore::TYPE) {
        return Ok(vec![more(inner, by, &key, content).await?]);
    }
    let asked = rules::break_glass(content, &key, true, &Remembered)?;
    if asked.request.requesting != *by {
        return Err(Code::WrongSigner.into());
    }
    if asked.request.source.as_ref() != Some(inner.own()) {
        return Err(Code::BreakGlassMismatch.into());
    }
    Ok(vec![first(inner, by, content, asked).await?])
}

/// Answers a break-glass.
async fn first(
    inner: &Arc<Inner>,
    by: &HospitalId,
    content: &[u8],
    asked: Broken,
) -> Result<Vec<u8>, ExchangeError> {
    let (now, request) = (inner.now(), &asked.request);
    let _turn = turn(inner, request.id).await;
    if let Some(held) = row(inner, request.id).await? {
        if held.request.as_ref() != content {
            return Err(Code::Conflict.into());
        }
        if let Some(answer) = held.answer {
            return Ok(answer.0);
        }
        // Noted, and then stopped: the audit line of this time is another one.
        rules::break_glass_in_time(request, now)?;
        if held.patient.is_none() {
            return nobody(inner, &asked, (request.hash(), EmergencyScope::Subset)).await;
        }
        let patient = local(held.patient.as_deref())?;
        let export = of_hospital(by, Action::Export, Some(patient.clone()), request);
        let permit = inner.parts.records.audit().permit(export, now).await?;
        return give(inner, &asked, &permit, &patient, (request.hash(), None)).await;
    }
    rules::break_glass_in_time(request, now)?;
    let why = details(inner, request)?;
    if let Err(fault) = throttled(inner, &asked).await {
        return refuse(inner, request, fault).await;
    }
    let patient = matching::find(inner, request, &why).await?;
    let noted = note(inner, by, content, &asked, patient.clone()).await;
    match (noted, patient) {
        (Ok(Some(permit)), Some(patient)) => {
            tracing::warn!(break_glass = %request.id, hospital = %by, "the glass is broken");
            give(inner, &asked, &permit, &patient, (request.hash(), None)).await
        }
        (Ok(_), _) => {
            let held = row(inner, request.id).await?.and_then(|held| held.answer);
            Ok(held.ok_or(Code::Internal)?.0)
        }
        (Err(fault), _) => refuse(inner, request, fault).await,
    }
}

/// The row with the audit line, in one transaction. Leave, if it fits a patient; else its refusal is kept.
async fn note(
    inner: &Arc<Inner>,
    by: &HospitalId,
    content: &[u8],
    asked: &Broken,
    patient: Option<LocalPatient>,
) -> Result<Option<Permit>, ExchangeError> {
    let (keys, now, request) = (inner.keys(), inner.now(), asked.request.clone());
    let action = if patient.is_some() { Action::Export } else { Action::BreakGlass };
    let line = of_hospital(by, action, patient.clone(), &request);
    let refusal = match patient {
        Some(_) => None,
        None => Some(answer(inner, &request, None, Some(Code::BreakGlassUnmatched), Vec::new())),
    };
    let held = InRow {
        request: content.to_vec().into(),
        since: now,
        patient: patient.as_ref().map(|patient| patient.as_str().to_owned()),
        answer: refusal.map(Bytes),
        more: None,
        more_answer: None,
        review: None,
        letter: None,
        is_noted: false,
        is_swept: false,
        is_forgotten: false,
        extensions: none(),
    };
    let clinician = asked.clinician.key.thumbprint();
    let (work, by) = (Arc::clone(inner), by.clone());
    let write = inner.parts.store.write(move |txn| -> Result<Option<Permit>, ExchangeError> {
        let key = place(&keys, IN, &request.id);
        if let Some(before) = rows::get::<InRow>(txn, &key)? {
            // The same came twice at once: both get the one answer that is kept.
            if before.request != held.request {
                return Err(Code::Conflict.into());
            }
            return match before.answer {
                Some(_) => Ok(None),
                None => Ok(Some(work.parts.records.audit().permit_in(txn, &line, now)?)),
            };
        }
        let overdue = due_before(txn, &keys, (IN, &by), now, 1)?;
        throttle::check::<ExchangeError>(txn, &keys, (&by, &clinician), !overdue.is_empty(), now)?;
        let permit = work.parts.records.audit().permit_in(txn, &line, now)?;
        let is_wrong_guess = patient.is_none() && request.patient.is_none();
        let asked = Asked { at: now, clinician, is_wrong_guess, extensions: none() };
        throttle::count(txn, &keys, &by, asked)?;
        rows::put(txn, &key, &held)?;
        if let Some(patient) = &patient {
            let of = keys.space(OF_PATIENT).hashed(patient.as_str()).raw(IN).raw(request.id.as_bytes());
            txn.put(&of.build(), request.id.as_bytes().to_vec())?;
        }
        owe(txn, &keys, IN, &request.id)?;
        Ok(patient.is_some().then_some(permit))
    });
    let noted = write.await;
    inner.glass.notify_one();
    noted
}

/// Seals what is asked for and keeps it with its answer, which is the same from then on: everything, if a second person
/// signed `second`, else the subset. What is given is to be reviewed.
async fn give(
    inner: &Arc<Inner>,
    asked: &Broken,
    permit: &Permit,
    patient: &LocalPatient,
    (hash, second): (Digest, Option<&[u8]>),
) -> Result<Vec<u8>, ExchangeError> {
    let (request, now) = (&asked.request, inner.now());
    let purpose = details(inner, request)?.purpose;
    let scope = second.map_or(EmergencyScope::Subset, |_| EmergencyScope::Everything);
    let plain = content::bundle(inner, permit, patient, (scope, purpose), now).await?;
    // Nothing is not given out: it would read as if there were no allergies.
    let Some(plain) = plain else { return nobody(inner, asked, (hash, scope)).await };
    let federation = inner.federation()?;
    let member = rules::emergency_member(&federation, &request.requesting, now)?;
    let to = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?;
    let binding = GlassBinding {
        source: inner.own().clone(),
        requesting: request.requesting.clone(),
        id: request.id,
        asked: hash,
    };
    // A share seals one content only.
    let share = Secret32::generate(&mut OsRandom);
    let secrets = binding.content_secrets(&share)?;
    let mut sealing = SealWriter::new(Vec::new(), &secrets.cek);
    sealing.write_all(&plain)?;
    let sealed = sealing.finish()?;
    let given = GivenOut {
        key: to.thumbprint(),
        share: to.wrap(share.expose(), &mut OsRandom)?.into(),
        commitment: secrets.commitment,
        pieces: sealed.chunks(PIECE_MAX_BYTES).map(|piece| Digest::sha256(&[piece])).collect(),
        extensions: none(),
    };
    let overdue = overdue(inner, &request.requesting).await?;
    let mut answer = answer_of(inner, request, hash, overdue);
    (answer.given, answer.scope) = (Some(given), scope);
    let answer = Verified::sign(answer, &inner.parts.identity.signing).envelope().to_vec();
    let (work, request, keys, id) = (Arc::clone(inner), request.clone(), inner.keys(), request.id);
    let (patient, second) = (patient.clone(), second.map(<[u8]>::to_vec));
    let write = inner.parts.store.write(move |txn| -> Result<Vec<u8>, ExchangeError> {
        let key = place(&keys, IN, &id);
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        let due = due_place(&keys, IN, &request.requesting, held.review_due(), &id);
        let is_reviewed = held.review.is_some();
        // They may have been forgotten since, and the window may have ended.
        if held.patient.as_deref() != Some(patient.as_str()) {
            return Err(Code::BreakGlassUnmatched.into());
        }
        if held.is_swept {
            return Err(Code::BreakGlassOver.into());
        }
        rules::break_glass_in_time(&request, work.now())?;
        if second.as_deref().is_some_and(|it| held.more.as_ref().is_none_or(|more| more.as_ref() != it)) {
            return Err(Code::Conflict.into());
        }
        let kept = if scope == EmergencyScope::Subset { &mut held.answer } else { &mut held.more_answer };
        if let Some(before) = kept {
            return Ok(before.0.clone());
        }
        *kept = Some(answer.clone().into());
        for (number, piece) in (0_u32..).zip(sealed.chunks(PIECE_MAX_BYTES)) {
            put_piece(txn, &work, IN_PIECE, (&hash, number), piece)?;
        }
        if !is_reviewed {
            txn.put(&due, id.as_bytes().to_vec())?;
        }
        rows::put(txn, &key, &held)?;
        Ok(answer.clone())
    });
    write.await
}

/// Who fitted is no patient with records any more: that they fit nobody is kept as the answer.
async fn nobody(
    inner: &Inner,
    asked: &Broken,
    (hash, scope): (Digest, EmergencyScope),
) -> Result<Vec<u8>, ExchangeError> {
    let answer = answer_of(inner, &asked.request, hash, Vec::new());
    let answer = BreakGlassAnswer { reason: Some(Code::BreakGlassUnmatched), scope, ..answer };
    let answer = Verified::sign(answer, &inner.parts.identity.signing).envelope().to_vec();
    let key = place(&inner.keys(), IN, &asked.request.id);
    let write = inner.parts.store.write(move |txn| -> Result<Vec<u8>, ExchangeError> {
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        let kept = if scope == EmergencyScope::Subset { &mut held.answer } else { &mut held.more_answer };
        let kept = kept.get_or_insert_with(|| answer.clone().into()).0.clone();
        rows::put(txn, &key, &held)?;
        Ok(kept)
    });
    write.await
}

/// A second person asks for everything.
async fn more(
    inner: &Arc<Inner>,
    by: &HospitalId,
    key: &SigningPublic,
    content: &[u8],
) -> Result<Vec<u8>, ExchangeError> {
    let claim = super::rows::more_claim(content)?;
    let _turn = turn(inner, claim.id).await;
    let held = row(inner, claim.id).await?.ok_or(Code::UnknownBreakGlass)?;
    let asked = broken(inner, held.request.as_ref(), by)?;
    let (more, second) = rules::break_glass_more(content, &asked, key, true, &Remembered)?;
    if held.answer.as_ref().map(kept::<BreakGlassAnswer>).transpose()?.is_none_or(|it| it.given.is_none()) {
        return Err(Code::OutOfOrder.into());
    }
    if held.more.as_ref().is_some_and(|it| it.as_ref() != content) {
        return Err(Code::Conflict.into());
    }
    if let Some(answer) = held.more_answer {
        return Ok(answer.0);
    }
    rules::break_glass_in_time(&asked.request, inner.now())?;
    let patient = local(held.patient.as_deref())?;
    let permit = note_more(inner, content, &asked, second.key.thumbprint(), &patient).await;
    match permit {
        Ok(permit) => give(inner, &asked, &permit, &patient, (more.hash(), Some(content))).await,
        Err(fault) if fault.code() == Code::BreakGlassThrottled => {
            let overdue = overdue(inner, by).await?;
            let answer = answer_of(inner, &asked.request, more.hash(), overdue);
            let answer = BreakGlassAnswer { reason: Some(fault.code()), ..answer };
            Ok(Verified::sign(answer, &inner.parts.identity.signing).envelope().to_vec())
        }
        Err(fault) => Err(fault),
    }
}

/// The second person's signature with the audit line, in one transaction.
async fn note_more(
    inner: &Arc<Inner>,
    content: &[u8],
    asked: &Broken,
    clinician: Digest,
    patient: &LocalPatient,
) -> Result<Permit, ExchangeError> {
    let (keys, now, request) = (inner.keys(), inner.now(), asked.request.clone());
    let line = of_hospital(&request.requesting, Action::Export, Some(patient.clone()), &request);
    let (work, content) = (Arc::clone(inner), content.to_vec());
    let write = inner.parts.store.write(move |txn| -> Result<Permit, ExchangeError> {
        let key = place(&keys, IN, &request.id);
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        if held.more.as_ref().is_some_and(|it| it.as_ref() != content) {
            return Err(Code::Conflict.into());
        }
        if held.more.is_none() {
            let by = (&request.requesting, &clinician);
            let overdue = due_before(txn, &keys, (IN, &request.requesting), now, 1)?;
            throttle::check::<ExchangeError>(txn, &keys, by, !overdue.is_empty(), now)?;
            let asked = Asked { at: now, clinician, is_wrong_guess: false, extensions: none() };
            throttle::count(txn, &keys, &request.requesting, asked)?;
        }
        let permit = work.parts.records.audit().permit_in(txn, &line, now)?;
        held.more = Some(content.clone().into());
        rows::put(txn, &key, &held)?;
        Ok(permit)
    });
    write.await
}

/// A piece of what was given out, while the window is open.
///
/// # Errors
/// [`Code::UnknownBreakGlass`], also for another hospital's; [`Code::BreakGlassOver`].
pub(crate) async fn piece(
    inner: &Arc<Inner>,
    party: &Party,
    items: &[Bytes],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let Party::Hospital(by) = party else { return Err(Code::AccessDenied.into()) };
    let federation = inner.federation()?;
    rules::emergency_member(&federation, inner.own(), inner.now())?;
    rules::emergency_member(&federation, by, inner.now())?;
    let [id, asked, number] = items else { return Err(Code::Malformed.into()) };
    let id = BreakGlassId::try_from(id.as_ref()).map_err(|_| Code::Malformed)?;
    let asked = Digest::try_from(asked.as_ref()).map_err(|_| Code::Malformed)?;
    let number = <[u8; 4]>::try_from(number.as_ref()).map_err(|_| Code::Malformed)?;
    let held = row(inner, id).await?.ok_or(Code::UnknownBreakGlass)?;
    let request = broken(inner, held.request.as_ref(), by).map_err(|_| Code::UnknownBreakGlass)?.request;
    let answers = [held.answer.as_ref(), held.more_answer.as_ref()].into_iter().flatten();
    let answers = answers.map(kept::<BreakGlassAnswer>).collect::<Result<Vec<_>, _>>()?;
    if !answers.iter().any(|answer| answer.asked == asked) {
        return Err(Code::UnknownBreakGlass.into());
    }
    rules::break_glass_in_time(&request, inner.now())?;
    let (work, number) = (Arc::clone(inner), u32::from_be_bytes(number));
    let read = inner.parts.store.read(move |txn| get_piece(txn, &work, IN_PIECE, (&asked, number)));
    Ok(vec![read.await?.ok_or(Code::UnknownBreakGlass)?])
}

/// Waits until nobody else is being answered to the same: what is sealed is made once.
async fn turn(inner: &Inner, id: BreakGlassId) -> OwnedMutexGuard<()> {
    let lock = {
        let mut all = inner.answering.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(all.entry(id).or_default())
    };
    lock.lock_owned().await
}

fn of_hospital(
    by: &HospitalId,
    action: Action,
    patient: Option<LocalPatient>,
    request: &BreakGlass,
) -> handover_records::GrantRequest {
    grant(Subject::Hospital(by.clone()), (action, Purpose::Emergency), patient, Some(request.id))
}

async fn row(inner: &Inner, id: BreakGlassId) -> Result<Option<InRow>, ExchangeError> {
    let key = place(&inner.keys(), IN, &id);
    Ok(inner.parts.store.read(move |txn| rows::get(txn, &key)).await?)
}

fn local(patient: Option<&str>) -> Result<LocalPatient, ExchangeError> {
    let patient = patient.ok_or(Code::BreakGlassUnmatched)?;
    Ok(patient.parse().map_err(|_| rows::damaged("a break-glass"))?)
}
