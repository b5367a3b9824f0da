//! A clerk recalls records: their own mark here, and a recall to every hospital that was sent them.

use std::collections::BTreeSet;
use std::sync::Arc;

use handover_core::artefact::recall::{RECALL_MAX_RECORDS, RecallDetails, RecallReason};
use handover_core::codec::Extensions;
use handover_core::{Amount, Code, HospitalId, Timestamp, TransferId};
use handover_dossier::{Dossier, Row};
use handover_records::{
    Action, Departments, GrantRequest, LocalPatient, Mark, Permit, Purpose, RecordId, RecordRef, Subject,
};
use handover_store::Txn;

use super::due::{self, Due};
use super::{Recalled, RecalledName, list, make};
use crate::context::Inner;
use crate::{Exchange, ExchangeError, bodies, recalled};

/// What a clerk wants recalled.
#[derive(Clone, Debug)]
pub struct RecallWish {
    /// Whose records.
    pub patient: LocalPatient,
    /// Which; empty: all that were sent.
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
    /// What the recalls of them give back of the fee; without one, what it will be.
    pub fee_back: Amount,
    /// The recalls of them for that reason or a graver one, oldest first; none in a preview, or while nothing has been
    /// released.
    pub recalls: Vec<Recalled>,
}

impl RecallWish {
    fn of(&self, (row, mut selected): (Row, Vec<RecordRef>)) -> Option<(Row, Vec<RecordRef>)> {
        if self.transfer.is_some_and(|transfer| transfer != row.transfer) {
            return None;
        }
        selected.retain(|at| self.records.is_empty() || self.records.contains(&at.record));
        (!selected.is_empty()).then_some((row, selected))
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
        let request = GrantRequest {
            subject: Subject::Staff { name: staff.to_owned() },
            action: Action::Recall,
            purpose: Purpose::Administration,
            patient: Some(wish.patient.clone()),
            departments: Departments::All,
            transfer: wish.transfer,
            break_glass: None,
        };
        let permit = inner.parts.records.audit().permit(request, inner.now()).await?;
        // What changed before the wish is recalled for its own reason.
        if let Err(fault) = due::look(inner).await {
            tracing::warn!(code = %fault.code(), "what changed before cannot be looked at");
        }
        let (work, keys, now, wished) = (Arc::clone(inner), inner.keys(), inner.now(), wish.clone());
        let leave = permit.clone();
        let read = inner.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let sent = due::sent(txn, &keys, &wished.patient)?;
            let sent: Vec<_> = sent.into_iter().filter_map(|sent| wished.of(sent)).collect();
            let found: BTreeSet<RecordId> =
                sent.iter().flat_map(|(_, selected)| selected).map(|at| at.record).collect();
            if found.is_empty() || !wished.records.is_subset(&found) {
                return Err(Code::NothingToRecall.into());
            }
            let planned = sent.iter().map(|sent| plan(txn, &work, &leave, &wished, sent, now));
            Ok((planned.collect::<Result<Vec<_>, _>>()?, sent))
        });
        let (mut planned, sent) = read.await?;
        if !is_preview {
            self.note_due(&permit, &wish, sent).await?;
        }
        for one in planned.iter_mut().filter(|_| !is_preview) {
            make::of_transfer(inner, one.transfer).await?;
            one.recalls = list::of_transfer(inner, one.transfer).await?;
            let named: BTreeSet<&RecalledName> = one.records.iter().collect();
            one.recalls.retain(|it| {
                it.reason >= Some(wish.reason) && it.records.iter().any(|record| named.contains(record))
            });
            let backs = one.recalls.iter().map(|recall| recall.fee_back);
            let sum = backs.map(Ok).reduce(|sum, back| sum?.checked_add(back?));
            one.fee_back = sum.transpose().map_err(|_| Code::RecallFee)?.unwrap_or(one.fee_back);
        }
        inner.recalls.notify_one();
        Ok(planned)
    }

    /// Notes what is due, and marks the records here: whoever is sent them later is told. A recall of one transfer
    /// alone says nothing of the records themselves.
    async fn note_due(
        &self,
        permit: &Permit,
        wish: &RecallWish,
        sent: Vec<(Row, Vec<RecordRef>)>,
    ) -> Result<(), ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let by = inner.own().clone();
        let mark = Mark { reason: wish.reason, by, since: now, replaced: None };
        let of_records = wish.transfer.is_none();
        for (row, selected) in sent {
            for some in selected.chunks(RECALL_MAX_RECORDS) {
                let (work, permit, mark, some) =
                    (Arc::clone(inner), permit.clone(), mark.clone(), some.to_vec());
                let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
                    let records = &work.parts.records;
                    for at in &some {
                        Due::new(row.transfer, *at, mark.reason).put(txn, &work.keys())?;
                        let standing = records.standing_in(txn, &permit, now, *at)?;
                        let Some(standing) = standing.filter(|_| of_records) else { continue };
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
    (row, selected): &(Row, Vec<RecordRef>),
    now: Timestamp,
) -> Result<Planned, ExchangeError> {
    let (keys, keyring) = (inner.keys(), &inner.parts.keyring);
    let mut records = Vec::with_capacity(selected.len());
    for at in selected {
        records.extend(make::name(txn, inner, permit, *at, None, now)?);
    }
    let details =
        RecallDetails { reason: wish.reason, records, salt: [0; 16], extensions: Extensions::default() };
    let priced = bodies::get(txn, keyring, &keys, row.transfer)?.ok_or(Code::StoreDamaged)?;
    let number = Dossier::of(txn, &keys, row.transfer).last_recall()?.saturating_add(1);
    let fee_back = recalled::fee_back(txn, keyring, &keys, (row, &priced.body), number, &details)?;
    Ok(Planned {
        transfer: row.transfer,
        destination: row.destination.clone(),
        records: details.records.iter().map(RecalledName::of).collect(),
        fee_back,
        recalls: Vec::new(),
    })
}
