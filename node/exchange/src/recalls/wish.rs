//! A clerk recalls records: their own mark here, and a recall to every hospital that was sent them.

use std::collections::BTreeSet;
use std::sync::Arc;

use handover_core::artefact::recall::{RECALL_MAX_RECORDS, RecallReason};
use handover_core::rules::Context;
use handover_core::{Amount, Code, HospitalId, Timestamp, TransferId};
use handover_dossier::Dossier;
use handover_records::{
    Action, GrantRequest, LocalPatient, Mark, Permit, Purpose, RecordId, RecordRef, Subject,
};
use handover_seal::Remembered;
use handover_store::Txn;

use super::due::{self, Due, Sent};
use super::make::Wrong;
use super::{Recalled, RecalledName, list, make};
use crate::context::Inner;
use crate::{Exchange, ExchangeError, bodies, recalled};

/// What a clerk wants recalled.
#[derive(Clone, Debug)]
pub struct RecallWish {
    /// Whose records.
    pub patient: LocalPatient,
    /// Which; empty: all that were sent, and what was charged for others if they are another patient's.
    pub records: BTreeSet<RecordId>,
    /// Why: of another patient, or retracted.
    pub reason: RecallReason,
    /// Only from this transfer; absent: from all.
    pub transfer: Option<TransferId>,
}

/// What a wish comes to.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The transfer.
    pub transfer: TransferId,
    /// Who was sent the records, or is to be.
    pub destination: HospitalId,
    /// Which of the records.
    pub records: Vec<RecalledName>,
    /// How many tests that were not sent, and that its fee was made of.
    pub other_tests: u32,
    /// What the recalls of them give back of the fee; without one, what it will be.
    pub fee_back: Amount,
    /// The recalls of them for that reason or a graver one, oldest first; none in a preview, or while nothing has been
    /// released.
    pub recalls: Vec<Recalled>,
}

impl RecallWish {
    fn of(&self, Sent { row, mut chosen }: Sent) -> Option<Sent> {
        if self.transfer.is_some_and(|transfer| transfer != row.transfer) {
            return None;
        }
        chosen.records.retain(|at| self.records.is_empty() || self.records.contains(&at.record));
        // Who is somebody else had none of the tests; what should not stand says nothing of others.
        let all_wrong = self.records.is_empty() && self.reason == RecallReason::WrongPatient;
        chosen.others.retain(|at| all_wrong || self.records.contains(&at.record));
        let is_empty = chosen.records.is_empty() && chosen.others.is_empty();
        (!is_empty).then_some(Sent { row, chosen })
    }
}

impl Exchange {
    /// Recalls records from every hospital that was sent them, or from one transfer. The same again gives the first
    /// answer. With `is_preview`, says what it would be about and changes nothing.
    ///
    /// # Errors
    /// [`Code::NothingToRecall`] unless each record that is named was sent; [`Code::UsageInvalid`] for `amended`, which
    /// only a newer version is a reason for.
    pub async fn recall(
        &self,
        staff: &str,
        wish: RecallWish,
        is_preview: bool,
    ) -> Result<Vec<Planned>, ExchangeError> {
        if wish.reason == RecallReason::Amended {
            return Err(Code::UsageInvalid.into());
        }
        let inner = &self.0;
        let permit = self.may_recall(staff, &wish).await?;
        // What changed before the wish is recalled for its own reason.
        if let Err(fault) = due::look(inner).await {
            tracing::warn!(code = %fault.code(), "what changed before cannot be looked at");
        }
        let (mut planned, sent) = self.planned(&permit, &wish).await?;
        let of = |sent: &Sent| sent.chosen.all().map(|at| at.record).collect();
        let about: Vec<BTreeSet<RecordId>> = sent.iter().map(of).collect();
        if !is_preview {
            self.note_due(&permit, &wish, sent).await?;
        }
        for (one, about) in planned.iter_mut().zip(about).filter(|_| !is_preview) {
            // Until it is known whether others hold more of it than this store, it is due.
            if inner.parts.gate.may_work(&one.destination).is_ok() {
                make::of_transfer(inner, one.transfer).await?;
            }
            one.recalls = list::of_transfer(inner, one.transfer).await?;
            let is_of_it = |it: &Recalled| it.own.iter().any(|record| about.contains(record));
            // The fee for a test that was not sent went back for whatever reason it was first.
            one.recalls.retain(|it| (it.reason >= Some(wish.reason) || it.other_tests > 0) && is_of_it(it));
            let backs = one.recalls.iter().map(|recall| recall.fee_back);
            let sum = backs.map(Ok).reduce(|sum, back| sum?.checked_add(back?));
            one.fee_back = sum.transpose().map_err(|_| Code::RecallFee)?.unwrap_or(one.fee_back);
        }
        inner.recalls.notify_one();
        Ok(planned)
    }

    /// What was sent of a patient, and to whom: what recalling all of it as another's would be about. What changed a
    /// moment ago is not looked at first, so that asking about many patients does not look at it many times.
    ///
    /// # Errors
    /// The store's faults, and that it may not be asked.
    pub async fn sent_of(&self, staff: &str, patient: &LocalPatient) -> Result<Vec<Planned>, ExchangeError> {
        let wish = RecallWish {
            patient: patient.clone(),
            records: BTreeSet::new(),
            reason: RecallReason::WrongPatient,
            transfer: None,
        };
        let permit = self.may_recall(staff, &wish).await?;
        match self.planned(&permit, &wish).await {
            Ok((planned, _)) => Ok(planned),
            Err(fault) if fault.code() == Code::NothingToRecall => Ok(Vec::new()),
            Err(fault) => Err(fault),
        }
    }

    async fn may_recall(&self, staff: &str, wish: &RecallWish) -> Result<Permit, ExchangeError> {
        let inner = &self.0;
        let request = GrantRequest {
            transfer: wish.transfer,
            ..GrantRequest::new(
                Subject::staff(staff),
                Action::Recall,
                Purpose::Administration,
                Some(wish.patient.clone()),
            )
        };
        Ok(inner.parts.records.audit().permit(request, inner.now()).await?)
    }

    /// What a wish comes to, with what was sent of it.
    async fn planned(
        &self,
        permit: &Permit,
        wish: &RecallWish,
    ) -> Result<(Vec<Planned>, Vec<Sent>), ExchangeError> {
        let inner = &self.0;
        let (work, now, wish) = (Arc::clone(inner), inner.now(), wish.clone());
        let (permit, federation) = (permit.clone(), inner.federation()?);
        let read = inner.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let sent = due::sent(txn, &work, &wish.patient, context)?;
            let sent: Vec<_> = sent.into_iter().filter_map(|sent| wish.of(sent)).collect();
            let found: BTreeSet<RecordId> =
                sent.iter().flat_map(|sent| sent.chosen.all()).map(|at| at.record).collect();
            if found.is_empty() || !wish.records.is_subset(&found) {
                return Err(Code::NothingToRecall.into());
            }
            let planned = sent.iter().map(|sent| plan(txn, &work, &permit, &wish, sent, now));
            Ok((planned.collect::<Result<Vec<_>, _>>()?, sent))
        });
        read.await
    }

    /// Notes what is due, and marks the records here: whoever is sent them later is told. A recall of one transfer
    /// alone says nothing of the records themselves.
    async fn note_due(
        &self,
        permit: &Permit,
        wish: &RecallWish,
        sent: Vec<Sent>,
    ) -> Result<(), ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let by = inner.own().clone();
        let mark = Mark { reason: wish.reason, by, since: now, replaced: None };
        let of_records = wish.transfer.is_none();
        for Sent { row, chosen } in sent {
            let all: Vec<RecordRef> = chosen.all().collect();
            // What was not sent is somebody else's only if it was named.
            let unsaid = chosen.others.iter().copied().filter(|_| wish.records.is_empty());
            let unsaid: Arc<BTreeSet<RecordRef>> = Arc::new(unsaid.collect());
            for some in all.chunks(RECALL_MAX_RECORDS) {
                let (work, permit, mark, some, unsaid) =
                    (Arc::clone(inner), permit.clone(), mark.clone(), some.to_vec(), Arc::clone(&unsaid));
                let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
                    let records = &work.parts.records;
                    for at in &some {
                        Due::new(row.transfer, *at, mark.reason).put(txn, &work.keys())?;
                        let standing = records.standing_in(txn, &permit, now, *at)?;
                        let Some(standing) = standing.filter(|_| of_records && !unsaid.contains(at)) else {
                            continue;
                        };
                        for at in [*at, standing.current.reference] {
                            records.mark_in(txn, &permit, now, at, &mark)?;
                        }
                    }
                    Ok(())
                });
                write.await?;
            }
        }
        Ok(())
    }
}

/// What recalling it from one hospital comes to.
fn plan(
    txn: &mut dyn Txn,
    inner: &Inner,
    permit: &Permit,
    wish: &RecallWish,
    Sent { row, chosen }: &Sent,
    now: Timestamp,
) -> Result<Planned, ExchangeError> {
    let (keys, keyring) = (inner.keys(), &inner.parts.keyring);
    let known = make::known(txn, inner, &keys, row.transfer)?;
    let mut wrong = Wrong::default();
    for at in &chosen.records {
        wrong.records.extend(make::name(txn, inner, permit, *at, None, now)?);
    }
    // Of a test that was not sent the fee goes back once.
    for at in chosen.others.iter().filter(|at| !known.contains_key(at.record.as_bytes())) {
        wrong.others.extend(make::name(txn, inner, permit, *at, None, now)?);
    }
    let priced = bodies::get(txn, keyring, &keys, row.transfer)?.ok_or(Code::StoreDamaged)?;
    let details = wrong.details(wish.reason, &priced)?;
    let number = Dossier::of(txn, &keys, row.transfer).last_recall()?.saturating_add(1);
    let fee_back = recalled::fee_back(txn, keyring, &keys, (row, &priced.body), number, &details)?;
    Ok(Planned {
        transfer: row.transfer,
        destination: row.destination.clone(),
        records: details.records.iter().map(RecalledName::of).collect(),
        other_tests: details.other_tests.map_or(0, |others| others.tests),
        fee_back,
        recalls: Vec::new(),
    })
}
