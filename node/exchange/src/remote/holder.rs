//! The old hospital: takes requests that another hospital vouches for, a clerk confirms or refuses them, and the patient
//! proves the code that went to the contact on file.

use std::sync::Arc;

use handover_core::artefact::patient::PatientLink;
use handover_core::artefact::remote::{RemoteLinkRequest, RemoteLinkState as State};
use handover_core::artefact::{Countersigned, Payload as _, Verified, peek_type};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context};
use handover_core::{Code, HospitalId, KeyChain, Party, PatientRef, RemoteLinkId, Timestamp};
use handover_records::{Action, LocalPatient, Subject, draw_link_code};
use handover_seal::{OsRandom, Remembered};
use handover_store::{KeyMaker, StoreError, Txn, rows};

use super::asked::{By, InRow};
use super::{
    CODE_LASTS_MS, IN, REQUEST_MAX_BYTES, ROWS_MAX, RemoteLink, cells, details, kept_until, left_of, permit,
    place,
};
use crate::context::Inner;
use crate::{Exchange, ExchangeError, key_records, links};

/// Requests that one hospital vouches for.
const ROWS_PER_HOSPITAL: usize = 50;
/// Wrong proofs that end a request.
const TRIES: u8 = 5;

/// A remote link that a clerk confirmed.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// The request.
    pub request: RemoteLink,
    /// What the patient proves; goes to the contact on file and nowhere else.
    pub code: String,
    /// Until when it is good.
    pub code_expires: Timestamp,
    /// How many other wallets are linked to the patient.
    pub others: usize,
}

/// Takes what a hospital brings: a request that it vouches for, or the link of a patient whose request was confirmed.
///
/// # Errors
/// Why it is not taken.
pub(crate) async fn take(
    inner: &Arc<Inner>,
    party: &Party,
    content: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let Party::Hospital(by) = party else { return Err(Code::AccessDenied.into()) };
    inner.federation()?.active(by, inner.now())?;
    if peek_type(content).is_ok_and(|label| label == PatientLink::TYPE) {
        return Ok(vec![take_link(inner, by, content).await?]);
    }
    take_request(inner, by, content).await
}

/// What the patient signed of a request that their hospital vouches for.
fn vouched_for(content: impl AsRef<[u8]>) -> Result<Vec<u8>, Code> {
    let vouched = Countersigned::<RemoteLinkRequest>::read(content.as_ref()).map_err(|fault| fault.code())?;
    Ok(vouched.first().to_vec())
}

async fn take_request(
    inner: &Arc<Inner>,
    by: &HospitalId,
    content: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    if content.len() > REQUEST_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let (federation, now) = (inner.federation()?, inner.now());
    let request = rules::remote_link(content, Context { federation: &federation, verifier: &Remembered })?;
    if request.vouching != *by {
        return Err(Code::WrongSigner.into());
    }
    if request.hospital != *inner.own() {
        return Err(Code::AskMismatch.into());
    }
    match row(inner, request.id).await {
        // Countersigned anew, if its hospital has replaced its key meanwhile.
        Ok(held) if vouched_for(&held.request)? == vouched_for(content)? => return Ok(held.items()),
        Ok(_) => return Err(Code::Conflict.into()),
        Err(fault) if fault.code() == Code::UnknownRemoteLink => {}
        Err(fault) => return Err(fault),
    }
    rules::remote_link_in_time(&request, now)?;
    let (keys, wanted) = (inner.keys(), (request.id, by.clone()));
    let new = InRow {
        request: content.to_vec().into(),
        state: State::Asked,
        reason: None,
        patient: None,
        code: None,
        code_expires: None,
        wrong: 0,
        answer: None,
        extensions: Extensions::default(),
    };
    // One that no desk here can read is not kept.
    details(inner, &request, request.sealed_to_hospital.as_ref())?;
    let write = inner.parts.store.write(move |txn| -> Result<Vec<Vec<u8>>, ExchangeError> {
        let key = place(&keys, IN, &wanted.0);
        if let Some(held) = rows::get::<InRow>(txn, &key)? {
            let is_same = vouched_for(&held.request)? == vouched_for(&new.request)?;
            return if is_same { Ok(held.items()) } else { Err(Code::Conflict.into()) };
        }
        let others = left(txn, &keys, now)?;
        let own = others.iter().filter(|other| other.vouching == wanted.1).count();
        if others.len() >= ROWS_MAX || own >= ROWS_PER_HOSPITAL {
            return Err(Code::Busy.into());
        }
        rows::put(txn, &key, &new)?;
        Ok(Vec::new())
    });
    let items = write.await?;
    tracing::info!(remote_link = %request.id, hospital = %by, "a remote link waits for the desk");
    Ok(items)
}

impl Exchange {
    /// A clerk confirms that the request is this patient's. The code goes to the contact on file, never to one that the
    /// request names. Again, it gives the same code.
    ///
    /// # Errors
    /// [`Code::UnknownRemoteLink`], [`Code::UnknownPatient`], [`Code::AskExpired`]; [`Code::LinkedOtherwise`] if the
    /// reference is linked to another patient here; [`Code::Conflict`] if another was confirmed; [`Code::OutOfOrder`]
    /// once it is over.
    pub async fn confirm_remote_link(
        &self,
        staff: &str,
        id: RemoteLinkId,
        patient: &LocalPatient,
    ) -> Result<Confirmed, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let request = row(inner, id).await?.request()?;
        let records = &inner.parts.records;
        if records.by_ref(request.patient).await?.is_some_and(|linked| linked.patient != *patient) {
            return Err(Code::LinkedOtherwise.into());
        }
        let subject = Subject::staff(staff);
        let _permit = permit(inner, subject, Action::Link, Some(patient)).await?;
        let code = draw_link_code(&mut OsRandom);
        let (work, key, confirmed) = (Arc::clone(inner), place(&inner.keys(), IN, &id), patient.clone());
        let write = inner.parts.store.write(move |txn| -> Result<InRow, ExchangeError> {
            let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownRemoteLink)?;
            match held.state {
                State::Asked => {}
                State::Confirmed if held.patient.as_deref() == Some(confirmed.as_str()) => return Ok(held),
                State::Confirmed => return Err(Code::Conflict.into()),
                _ => return Err(Code::OutOfOrder.into()),
            }
            rules::remote_link_in_time(&*held.request()?, now)?;
            work.parts.records.require_registered(txn, &confirmed)?;
            held.patient = Some(confirmed.as_str().to_owned());
            held.code = Some(code.clone());
            held.code_expires = Some(now.plus_ms(CODE_LASTS_MS));
            held.answer(signer(&work), State::Confirmed, None, now)?;
            rows::put(txn, &key, &held)?;
            Ok(held)
        });
        let held = write.await?;
        let linked = records.refs_of(patient).await?;
        let (Some(code), Some(code_expires)) = (held.code.clone(), held.code_expires) else {
            return Err(Code::OutOfOrder.into());
        };
        Ok(Confirmed {
            others: linked.iter().filter(|it| it.patient_ref != request.patient).count(),
            request: shown(inner, &held)?,
            code,
            code_expires,
        })
    }
}

/// A clerk says no, also to what was confirmed before: the code is worth nothing then.
pub(super) async fn refuse(
    inner: &Arc<Inner>,
    id: RemoteLinkId,
    reason: Code,
) -> Result<RemoteLink, ExchangeError> {
    let (work, key, now) = (Arc::clone(inner), place(&inner.keys(), IN, &id), inner.now());
    let write = inner.parts.store.write(move |txn| -> Result<InRow, ExchangeError> {
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownRemoteLink)?;
        match (held.state, held.reason) {
            (State::Asked | State::Confirmed, _) => end(txn, signer(&work), &key, &mut held, reason, now)?,
            (State::Refused, Some(before)) if before == reason => {}
            _ => return Err(Code::OutOfOrder.into()),
        }
        Ok(held)
    });
    shown(inner, &write.await?)
}

fn end(
    txn: &mut dyn Txn,
    by: By<'_>,
    key: &[u8],
    held: &mut InRow,
    reason: Code,
    now: Timestamp,
) -> Result<(), StoreError> {
    held.code = None;
    held.answer(by, State::Refused, Some(reason), now)?;
    rows::put(txn, key, held)
}

/// Links a patient whose request was confirmed and who proves the code; the link, countersigned. The same again gives
/// the first answer.
///
/// # Errors
/// [`Code::LinkCodeWrong`], also if nothing was confirmed for this reference by way of this hospital.
pub(crate) async fn take_link(
    inner: &Arc<Inner>,
    by: &HospitalId,
    envelope: &[u8],
) -> Result<Vec<u8>, ExchangeError> {
    if envelope.len() > links::LINK_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let link = rules::link_claim(envelope, inner.own(), &Remembered)?;
    let chain = KeyChain::of(&link.key_records, &link.patient, &Remembered)?;
    Exchange(Arc::clone(inner)).admit_keys(chain.clone()).await?;
    let (id, patient) = prove(inner, by, &link).await?;
    if let Some(known) = links::signed(&inner.parts.store, &link).await? {
        return Ok(known);
    }
    let permit = permit(inner, Subject::Patient(link.patient), Action::Link, Some(&patient)).await?;
    let signed = Countersigned::<PatientLink>::sign(&link, &inner.parts.identity.signing);
    let (work, keys, now, answer) = (Arc::clone(inner), inner.keys(), inner.now(), signed.clone());
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let key = place(&keys, IN, &id);
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::LinkCodeWrong)?;
        // Somebody may have said no since it was looked at.
        if held.state != State::Confirmed {
            return Err(Code::LinkCodeWrong.into());
        }
        work.parts.records.link_in(txn, &permit, now, link.patient, &patient)?;
        key_records::begin(txn, &keys, &chain, now)?;
        links::finish_in(txn, &keys, &link, &answer)?;
        held.answer(signer(&work), State::Linked, None, now)?;
        Ok(rows::put(txn, &key, &held)?)
    });
    write.await?;
    inner.links.notify_one();
    Ok(signed)
}

/// The request whose code a link proves, and the patient here. A wrong proof counts against every request that was
/// confirmed for the reference, and for nothing else: nobody's codes suffer from others' guesses.
async fn prove(
    inner: &Arc<Inner>,
    by: &HospitalId,
    link: &Verified<PatientLink>,
) -> Result<(RemoteLinkId, LocalPatient), ExchangeError> {
    let (work, keys, now) = (Arc::clone(inner), inner.keys(), inner.now());
    let (by, link) = (by.clone(), link.clone());
    let write = inner.parts.store.write(move |txn| prove_in(txn, &keys, signer(&work), &by, &link, now));
    let found: Result<_, StoreError> = write.await;
    found?.ok_or_else(|| Code::LinkCodeWrong.into())
}

/// [`prove`] inside a transaction, which is kept whatever comes of it: wrong ones count.
fn prove_in(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    own: By<'_>,
    by: &HospitalId,
    link: &PatientLink,
    now: Timestamp,
) -> Result<Option<(RemoteLinkId, LocalPatient)>, StoreError> {
    let mut tried = Vec::new();
    for (key, value) in cells(txn, keys, IN)? {
        let held: InRow = rows::read(&value)?;
        if !matches!(held.state, State::Confirmed | State::Linked) {
            continue;
        }
        let request = held.claim()?;
        let is_open = held.code_expires.is_some_and(|until| now < until);
        if request.patient != link.patient || request.vouching != *by || !is_open {
            continue;
        }
        let proven = held.code.as_deref().is_some_and(|code| rules::link_code(link, code));
        if let Some(patient) = held.local()?.filter(|_| proven) {
            return Ok(Some((request.id, patient)));
        }
        tried.push((key, held));
    }
    for (key, mut held) in tried.into_iter().filter(|(_, held)| held.state == State::Confirmed) {
        held.wrong = held.wrong.saturating_add(1);
        if held.wrong >= TRIES {
            end(txn, own, &key, &mut held, Code::LinkCodeWrong, now)?;
        } else {
            rows::put(txn, &key, &held)?;
        }
    }
    Ok(None)
}

fn signer(inner: &Inner) -> By<'_> {
    (inner.own(), &inner.parts.identity.signing)
}

pub(super) async fn list(inner: &Arc<Inner>) -> Result<Vec<RemoteLink>, ExchangeError> {
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| -> Result<Vec<InRow>, StoreError> {
        cells(txn, &keys, IN)?.iter().map(|(_, value)| rows::read(value)).collect()
    });
    let mut found = Vec::new();
    for held in read.await? {
        if inner.now() < kept_until(&held.claim()?) {
            found.push(shown(inner, &held)?);
        }
    }
    Ok(found)
}

/// Removes what is past its time; what is left.
pub(super) fn left(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    now: Timestamp,
) -> Result<Vec<RemoteLinkRequest>, StoreError> {
    left_of(txn, keys, IN, now, |value| rows::read::<InRow>(value)?.claim())
}

pub(super) fn forget(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    refs: &[PatientRef],
    local: Option<&LocalPatient>,
) -> Result<(), StoreError> {
    for (key, value) in cells(txn, keys, IN)? {
        let held: InRow = rows::read(&value)?;
        let is_local = local.is_some() && held.local()?.as_ref() == local;
        if is_local || refs.contains(&held.claim()?.patient) {
            txn.remove(&key)?;
        }
    }
    Ok(())
}

async fn row(inner: &Inner, id: RemoteLinkId) -> Result<InRow, ExchangeError> {
    let key = place(&inner.keys(), IN, &id);
    let read = inner.parts.store.read(move |txn| rows::get(txn, &key));
    Ok(read.await?.ok_or(Code::UnknownRemoteLink)?)
}

fn shown(inner: &Inner, held: &InRow) -> Result<RemoteLink, ExchangeError> {
    let request = held.request()?;
    Ok(RemoteLink {
        id: request.id,
        is_vouching: false,
        patient: request.patient,
        other: request.vouching.clone(),
        details: details(inner, &request, request.sealed_to_hospital.as_ref())?,
        state: held.state,
        reason: held.reason,
        expires: request.expires,
        local: held.local()?,
    })
}

#[cfg(test)]
mod tests;
