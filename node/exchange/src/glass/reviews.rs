//! Reviews: an officer of the hospital that asked says whether there was an emergency, within seven days; the hospital
//! that was asked and the patient hear of it. And letters to patients who have no wallet.

use std::sync::Arc;

use handover_core::artefact::Signed;
use handover_core::artefact::Verified;
use handover_core::artefact::break_glass::{
    BreakGlassReview, REVIEW_WITHIN_MS, ReviewDetails, ReviewVerdict,
};
use handover_core::codec;
use handover_core::message::break_glass_binding;
use handover_core::rules::{self, Context};
use handover_core::{BreakGlassId, Code, HospitalId};
use handover_records::{Action, Purpose, Subject};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, Remembered, RsaPublicKey};
use handover_store::rows;

use super::rows::{InRow, OutRow};
use super::{GlassView, IN, OUT, broken, due_before, due_place, grant, none, owe, place, second};
use crate::context::Inner;
use crate::{Exchange, ExchangeError};

/// Reviews that are counted.
const COUNTED_MAX: usize = 1_000;

/// Reviews that this hospital owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReviewsOwed {
    /// How many wait.
    pub due: usize,
    /// How many of them longer than seven days.
    pub overdue: usize,
}

impl Exchange {
    /// Judges a break-glass of this hospital. The same again changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`]; [`Code::OutOfOrder`] where it was refused; [`Code::SamePerson`] for who broke
    /// the glass, and who asked for more; [`Code::Conflict`] if it was judged otherwise.
    pub async fn review_break_glass(
        &self,
        staff: &str,
        id: BreakGlassId,
        verdict: ReviewVerdict,
        note: Option<&str>,
    ) -> Result<GlassView, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let held = super::asking::row(inner, id).await?;
        let asked = broken(inner, held.request.as_ref(), inner.own())?;
        if rules::is_one_name(&asked.clinician.name, staff) {
            return Err(Code::SamePerson.into());
        }
        let source = asked.request.source.clone().ok_or(Code::OutOfOrder)?;
        let details =
            ReviewDetails { by: staff.to_owned(), note: note.map(str::to_owned), extensions: none() };
        if !details.is_readable() {
            return Err(Code::UsageInvalid.into());
        }
        let rsa = inner.federation()?.member(&source)?.profile.rsa_key.clone();
        let rsa = RsaPublicKey::from_spki_der(rsa.as_ref())?;
        let sealed = seal_part(&rsa, &break_glass_binding(&id), &codec::encode(&details), &mut OsRandom)?;
        let review = BreakGlassReview {
            id,
            break_glass: asked.request.hash(),
            hospital: inner.own().clone(),
            verdict,
            sealed_to_source: sealed.into(),
            issued: now,
            extensions: none(),
        };
        let review = Verified::sign(review, &inner.parts.identity.signing).envelope().to_vec();
        let due = asked.request.issued.plus_ms(REVIEW_WITHIN_MS);
        let subject = Subject::staff(staff);
        let line = grant(subject, (Action::ReviewEmergency, Purpose::Administration), None, Some(id));
        let (work, keys, staff) = (Arc::clone(inner), inner.keys(), staff.to_owned());
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let key = place(&keys, OUT, &id);
            let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
            if let Some(before) = super::rows::review(held.review.as_ref())? {
                let same = before.verdict == verdict
                    && held.reviewed_by.as_ref() == Some(&details.by)
                    && held.review_note == details.note;
                return if same { Ok(()) } else { Err(Code::Conflict.into()) };
            }
            // An answer may be lost: also where nothing has come, the source may wait for a review.
            if held.refused()?.is_some() {
                return Err(Code::OutOfOrder.into());
            }
            if let Some(more) = &held.more {
                let (_, (name, _)) = second(&work, more, &asked)?;
                if rules::is_one_name(&name, staff.as_str()) {
                    return Err(Code::SamePerson.into());
                }
            }
            work.parts.records.audit().permit_in(txn, &line, now)?;
            held.review = Some(review.clone().into());
            (held.reviewed_by, held.review_note) = (Some(details.by.clone()), details.note.clone());
            txn.remove(&due_place(&keys, OUT, work.own(), due, &id))?;
            owe(txn, &keys, OUT, &id)?;
            Ok(rows::put(txn, &key, &held)?)
        });
        write.await?;
        inner.glass.notify_one();
        self.glass_out(id).await
    }

    /// How many reviews this hospital owes.
    ///
    /// # Errors
    /// The store's.
    pub async fn reviews_owed(&self) -> Result<ReviewsOwed, ExchangeError> {
        let (keys, own, now) = (self.0.keys(), self.0.own().clone(), self.0.now());
        let read = self.0.parts.store.read(move |txn| -> Result<ReviewsOwed, ExchangeError> {
            let all = keys.space(super::DUE).raw(OUT).raw(own.as_str()).build();
            let due = txn.scan(&all, None, COUNTED_MAX)?.len();
            let overdue = due_before(txn, &keys, (OUT, &own), now, COUNTED_MAX)?.len();
            Ok(ReviewsOwed { due, overdue })
        });
        read.await
    }

    /// Notes that a letter told the patient, who has no wallet. Again, it changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`]; [`Code::OutOfOrder`] where no patient here is concerned.
    pub async fn told_of_break_glass(
        &self,
        staff: &str,
        id: BreakGlassId,
    ) -> Result<GlassView, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let subject = Subject::staff(staff);
        let line = grant(subject, (Action::ReviewEmergency, Purpose::Administration), None, Some(id));
        let (work, keys) = (Arc::clone(inner), inner.keys());
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let key = place(&keys, IN, &id);
            let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
            if held.patient.is_none() {
                return Err(Code::OutOfOrder.into());
            }
            if held.letter.is_none() {
                work.parts.records.audit().permit_in(txn, &line, now)?;
                held.letter = Some(now);
                rows::put(txn, &key, &held)?;
            }
            Ok(())
        });
        write.await?;
        self.glass_in(id).await
    }
}

/// Takes the review of the hospital that asked; again, it changes nothing.
pub(super) async fn take(inner: &Inner, by: &HospitalId, envelope: &[u8]) -> Result<(), ExchangeError> {
    let claim = Signed::<BreakGlassReview>::read(envelope).map_err(|fault| fault.code())?;
    let id = claim.claim().id;
    let key = place(&inner.keys(), IN, &id);
    let read_at = key.clone();
    let held: Option<InRow> = inner.parts.store.read(move |txn| rows::get(txn, &read_at)).await?;
    let held = held.ok_or(Code::UnknownBreakGlass)?;
    let asked = broken(inner, held.request.as_ref(), by).map_err(|_| Code::UnknownBreakGlass)?;
    let federation = inner.federation()?;
    let context = Context { federation: &federation, verifier: &Remembered };
    let review = rules::break_glass_review(envelope, &asked.request, context)?;
    let (keys, by, envelope) = (inner.keys(), by.clone(), review.envelope().to_vec());
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        match &held.review {
            Some(before) if before.as_ref() == envelope => return Ok(()),
            Some(_) => return Err(Code::Conflict.into()),
            None => held.review = Some(envelope.clone().into()),
        }
        txn.remove(&due_place(&keys, IN, &by, held.review_due(), &id))?;
        Ok(rows::put(txn, &key, &held)?)
    });
    write.await
}
