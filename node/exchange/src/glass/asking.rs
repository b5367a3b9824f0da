//! The hospital that asks: what a certified clinician signed is countersigned, kept with its audit line, and asked; what
//! comes is kept, sealed, until the window ends.

use std::sync::{Arc, PoisonError};

use handover_core::artefact::break_glass::{BreakGlass, BreakGlassMore, BreakGlassNote};
use handover_core::artefact::patient::Holders;
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, Request, Verb};
use handover_core::rules::{self, Broken};
use handover_core::{BreakGlassId, Code, Digest, HospitalId};
use handover_net::Route;
use handover_records::{Action, LocalPatient, Purpose, Subject};
use handover_seal::Remembered;
use handover_store::rows;

use super::clinicians::check_in_force;
use super::fetching::go_on;
use super::rows::OutRow;
use super::{GlassView, OF_PATIENT, OUT, broken, details, grant, none, owe, place};
use crate::context::Inner;
use crate::{Exchange, ExchangeError};

/// What a clinician's program needs to know before it signs.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The hospital.
    pub hospital: HospitalId,
    /// Its RSA public key, DER SubjectPublicKeyInfo.
    pub rsa_key: Vec<u8>,
}

impl Exchange {
    /// Whom a break-glass can be sealed to now.
    ///
    /// # Errors
    /// Why that hospital takes no part in emergencies.
    pub fn emergency_recipient(&self, hospital: &HospitalId) -> Result<Recipient, ExchangeError> {
        let federation = self.0.federation()?;
        let member = rules::emergency_member(&federation, hospital, self.0.now())?;
        Ok(Recipient { hospital: hospital.clone(), rsa_key: member.profile.rsa_key.0.clone() })
    }

    /// Asks the index who holds a patient's records, under what a clinician signed for that. Those that take part now.
    ///
    /// # Errors
    /// [`Code::Unreachable`] while the index is away; as [`Exchange::break_glass`].
    pub async fn locate_in_emergency(&self, signed: Vec<u8>) -> Result<Vec<HospitalId>, ExchangeError> {
        let inner = &self.0;
        let asked = self.keep(signed).await?;
        if asked.request.source.is_some() {
            return Err(Code::BreakGlassMismatch.into());
        }
        let note = note(inner, &asked.request);
        let items = ask(inner, &inner.route_to_index(), Verb::BreakGlass, vec![note]).await?;
        let holders = items.into_iter().next().ok_or(Code::Malformed)?;
        let holders: Holders = codec::decode(&holders, MAX_MESSAGE_BYTES)?;
        let (federation, now) = (inner.federation()?, inner.now());
        let is_there =
            |it: &HospitalId| it != inner.own() && rules::emergency_member(&federation, it, now).is_ok();
        Ok(holders.hospitals.into_iter().map(|it| it.hospital).filter(is_there).collect())
    }

    /// Breaks the glass: what a clinician signed is countersigned and kept, and its source is asked. The same again gives
    /// how it stands. One that could not be asked yet is asked again until its window ends.
    ///
    /// # Errors
    /// [`Code::ClinicianUnknown`], [`Code::BreakGlassMismatch`], [`Code::BreakGlassOver`], [`Code::Conflict`].
    pub async fn break_glass(&self, signed: Vec<u8>) -> Result<GlassView, ExchangeError> {
        let claim = Signed::<BreakGlass>::read(&signed).map_err(|fault| fault.code())?;
        let _awaited = Awaited::new(&self.0, claim.claim().id);
        if claim.claim().source.is_none() {
            return Err(Code::BreakGlassMismatch.into());
        }
        let asked = self.keep(signed).await?;
        self.ask_now(asked.request.id).await
    }

    /// A second clinician asks for everything.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`]; [`Code::OutOfOrder`] before the first one's answer is here; [`Code::SamePerson`]; as
    /// [`Exchange::break_glass`].
    pub async fn break_glass_more(&self, signed: Vec<u8>) -> Result<GlassView, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let claim = Signed::<BreakGlassMore>::read(&signed).map_err(|fault| fault.code())?;
        let id = claim.claim().id;
        let _awaited = Awaited::new(inner, id);
        let held = row(inner, id).await?;
        let asked = broken(inner, held.request.as_ref(), inner.own())?;
        rules::break_glass_in_time(&asked.request, now)?;
        let signing = &inner.parts.identity.signing;
        let (more, who) = rules::break_glass_more(&signed, &asked, &signing.public(), false, &Remembered)?;
        let envelope = Countersigned::sign(&more, signing);
        let line = (Action::BreakGlass, Purpose::Emergency);
        let subject = Subject::staff(&who.name);
        let line = grant(subject, line, local(held.patient.as_deref())?, Some(id));
        let (work, keys) = (Arc::clone(inner), inner.keys());
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            check_in_force(txn, &work, &who, now)?;
            let key = place(&keys, OUT, &id);
            let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
            if !held.is_here {
                return Err(Code::OutOfOrder.into());
            }
            match &held.more {
                Some(before) if before.as_ref() == envelope => return Ok(()),
                // One that was refused can be asked anew.
                Some(_) if held.more_refused()?.is_none() => return Err(Code::Conflict.into()),
                _ => {}
            }
            work.parts.records.audit().permit_in(txn, &line, now)?;
            (held.more, held.more_answer) = (Some(envelope.clone().into()), None);
            owe(txn, &keys, OUT, &id)?;
            rows::put(txn, &key, &held)?;
            Ok(())
        });
        write.await?;
        self.ask_now(id).await
    }

    /// The hash of a break-glass of this hospital, which a second person signs.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`].
    pub async fn break_glass_hash(&self, id: BreakGlassId) -> Result<Digest, ExchangeError> {
        let held = row(&self.0, id).await?;
        Ok(broken(&self.0, held.request.as_ref(), self.0.own())?.request.hash())
    }

    async fn ask_now(&self, id: BreakGlassId) -> Result<GlassView, ExchangeError> {
        // What it came to stands in the row, also why it has to wait.
        drop(go_on(&self.0, id).await);
        self.0.glass.notify_one();
        self.glass_out(id).await
    }

    /// Countersigns and keeps what a clinician signed, with its audit line, before anything leaves.
    async fn keep(&self, signed: Vec<u8>) -> Result<Broken, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let signing = &inner.parts.identity.signing;
        let asked = rules::break_glass(&signed, &signing.public(), false, &Remembered)?;
        let request = asked.request.clone();
        if request.requesting != *inner.own() {
            return Err(Code::BreakGlassMismatch.into());
        }
        let federation = inner.federation()?;
        rules::emergency_member(&federation, inner.own(), now)?;
        rules::break_glass_in_time(&request, now)?;
        // One that no officer here can read is not signed.
        details(inner, &request)?;
        let envelope = Countersigned::sign(&request, signing);
        let local = match request.patient {
            Some(patient) => inner.parts.records.by_ref(patient).await?.map(|linked| linked.patient),
            None => None,
        };
        let held = OutRow::new(envelope, local.as_ref().map(|it| it.as_str().to_owned()));
        let subject = Subject::staff(&asked.clinician.name);
        let line = grant(subject, (Action::BreakGlass, Purpose::Emergency), local, Some(request.id));
        let (work, keys, clinician) = (Arc::clone(inner), inner.keys(), asked.clinician.clone());
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            check_in_force(txn, &work, &clinician, now)?;
            let key = place(&keys, OUT, &request.id);
            if let Some(before) = rows::get::<OutRow>(txn, &key)? {
                return if before.request == held.request { Ok(()) } else { Err(Code::Conflict.into()) };
            }
            work.parts.records.audit().permit_in(txn, &line, now)?;
            rows::put(txn, &key, &held)?;
            if request.source.is_some() {
                owe(txn, &keys, OUT, &request.id)?;
            }
            if let Some(patient) = &held.patient {
                let of = keys.space(OF_PATIENT).hashed(patient).raw(OUT).raw(request.id.as_bytes());
                txn.put(&of.build(), request.id.as_bytes().to_vec())?;
            }
            Ok(())
        });
        write.await?;
        Ok(asked)
    }
}

/// Somebody waits for this one: it is asked for them, and not by itself.
struct Awaited<'a>(&'a Inner, BreakGlassId);

impl<'a> Awaited<'a> {
    fn new(inner: &'a Inner, id: BreakGlassId) -> Self {
        inner.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self(inner, id)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What the index is told of it: that there is one.
pub(super) fn note(inner: &Inner, request: &Verified<BreakGlass>) -> Vec<u8> {
    let note = BreakGlassNote {
        id: request.id,
        break_glass: request.hash(),
        requesting: request.requesting.clone(),
        source: request.source.clone(),
        patient: request.patient,
        issued: request.issued,
        extensions: none(),
    };
    Verified::sign(note, &inner.parts.identity.signing).envelope().to_vec()
}

pub(super) async fn ask(
    inner: &Inner,
    route: &Route,
    verb: Verb,
    items: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let net = inner.net.get().ok_or(Code::Unreachable)?;
    let answer = net.request(route, Request::encode(verb, items)).await?;
    Ok(Answer::decode(&answer)?)
}

pub(super) async fn row(inner: &Inner, id: BreakGlassId) -> Result<OutRow, ExchangeError> {
    let key = place(&inner.keys(), OUT, &id);
    let read = inner.parts.store.read(move |txn| rows::get(txn, &key));
    Ok(read.await?.ok_or(Code::UnknownBreakGlass)?)
}

pub(super) async fn change(
    inner: &Inner,
    id: BreakGlassId,
    step: impl Fn(&mut OutRow) + Send + 'static,
) -> Result<(), ExchangeError> {
    let key = place(&inner.keys(), OUT, &id);
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        step(&mut held);
        Ok(rows::put(txn, &key, &held)?)
    });
    write.await
}

pub(super) fn local(patient: Option<&str>) -> Result<Option<LocalPatient>, ExchangeError> {
    let read = |patient: &str| patient.parse().map_err(|_| rows::damaged("a break-glass"));
    Ok(patient.map(read).transpose()?)
}
