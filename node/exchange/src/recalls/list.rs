//! Recalls as the desk sees them: sent and received, with what is said about them here and whether they are confirmed.

use std::sync::Arc;

use handover_core::artefact::recall::{RECALLS_MAX, RecallReason, RecalledRecord};
use handover_core::codec::Extensions;
use handover_core::message::RecallNotice;
use handover_core::rules::Context;
use handover_core::transfer::Role;
use handover_core::{Amount, Digest, HospitalId, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Row};
use handover_records::{LocalPatient, RecordId};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};

use crate::context::Inner;
use crate::recalled::{self, Kept};
use crate::{Exchange, ExchangeError, inboxes};

/// How many recalls of a transfer a patient is told of.
const NOTICES: u32 = 5;

/// A record as a package named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecalledName {
    /// Where it was first recorded.
    pub origin: HospitalId,
    /// FHIR resource type.
    pub resource_type: String,
    /// FHIR logical id.
    pub resource_id: String,
}

impl RecalledName {
    pub(super) fn of(record: &RecalledRecord) -> Self {
        Self {
            origin: record.origin.clone(),
            resource_type: record.resource_type.clone(),
            resource_id: record.resource_id.clone(),
        }
    }
}

/// A recall.
#[derive(Clone, Debug)]
pub struct Recalled {
    /// The transfer.
    pub transfer: TransferId,
    /// Its number in the transfer.
    pub number: u32,
    /// Its hash, by which the ledger names it.
    pub hash: Digest,
    /// Whether this hospital recalled; else it was told.
    pub is_sent: bool,
    /// The other hospital.
    pub other: HospitalId,
    /// Whose records, here; none if they are not known here any more.
    pub patient: Option<LocalPatient>,
    /// Why; none if the patient is forgotten here.
    pub reason: Option<RecallReason>,
    /// Which records.
    pub records: Vec<RecalledName>,
    /// Which of this hospital's records that is, if it recalled.
    pub own: Vec<RecordId>,
    /// How many tests that were not sent, and that its fee was made of.
    pub other_tests: u32,
    /// What the source gives back of the fee.
    pub fee_back: Amount,
    /// What the destination computes from the lines, as far as it is known here.
    pub fee_computed: Option<Amount>,
    /// When it was made.
    pub issued: Timestamp,
    /// Since when it is marked at the destination, if that has said so.
    pub marked: Option<Timestamp>,
}

impl Exchange {
    /// All recalls, by transfer, oldest first.
    ///
    /// # Errors
    /// The store's; what does not verify any more.
    pub async fn recalls(&self) -> Result<Vec<Recalled>, ExchangeError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let keys = self.0.keys();
            let read = self.0.parts.store.read(move |txn| recalled::transfers(txn, &keys, after));
            let (page, is_last) = read.await?;
            for transfer in &page {
                all.extend(of_transfer(&self.0, *transfer).await?);
            }
            after = page.last().copied();
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// A transfer's recalls.
pub(super) async fn of_transfer(
    inner: &Arc<Inner>,
    transfer: TransferId,
) -> Result<Vec<Recalled>, ExchangeError> {
    newest(inner, transfer, RECALLS_MAX).await
}

/// What a transfer's patient is told of its recalls.
pub(crate) async fn notices(
    inner: &Arc<Inner>,
    transfer: TransferId,
) -> Result<Vec<RecallNotice>, ExchangeError> {
    let notice = |recalled: Recalled| RecallNotice {
        number: recalled.number,
        reason: recalled.reason,
        records: u32::try_from(recalled.records.len()).unwrap_or(u32::MAX),
        fee_back: recalled.fee_back,
        issued: recalled.issued,
        marked: recalled.marked,
        other_tests: recalled.other_tests,
        fee_computed: recalled.fee_computed,
        extensions: Extensions::default(),
    };
    Ok(newest(inner, transfer, NOTICES).await?.into_iter().map(notice).collect())
}

/// The newest of a transfer's recalls, at most `limit`, oldest first.
async fn newest(
    inner: &Arc<Inner>,
    transfer: TransferId,
    limit: u32,
) -> Result<Vec<Recalled>, ExchangeError> {
    let (work, keys, federation) = (Arc::clone(inner), inner.keys(), inner.federation()?);
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        let mut dossier = Dossier::of(txn, &keys, transfer);
        let Some(row) = dossier.row()? else { return Ok(Vec::new()) };
        let last = dossier.last_recall()?;
        let first = last.saturating_sub(limit).saturating_add(1);
        (first..=last).map(|number| one(txn, &work, &keys, &row, number, context)).collect()
    });
    Ok(read.await?)
}

fn one(
    txn: &mut dyn Txn,
    inner: &Inner,
    keys: &KeyMaker,
    row: &Row,
    number: u32,
    context: Context<'_>,
) -> Result<Recalled, DossierError> {
    let mut dossier = Dossier::of(txn, keys, row.transfer);
    let (recall, _) = dossier.recall(number, context)?;
    let confirmed = dossier.recall_confirmed(number, context)?;
    let kept = recalled::get(txn, &inner.parts.keyring, keys, (row.transfer, number))?;
    let is_sent = row.role == Role::Source;
    let names = |kept: &Kept| kept.details.records.iter().map(RecalledName::of).collect();
    let own = |kept: &Kept| kept.own.iter().copied().map(RecordId::from_bytes).collect();
    Ok(Recalled {
        transfer: row.transfer,
        number,
        hash: recall.hash(),
        is_sent,
        other: if is_sent { row.destination.clone() } else { row.source.clone() },
        patient: inboxes::whose(txn, keys, row.transfer)?,
        reason: kept.as_ref().map(|kept| kept.details.reason),
        records: kept.as_ref().map(names).unwrap_or_default(),
        own: kept.as_ref().map(own).unwrap_or_default(),
        other_tests: kept.and_then(|kept| kept.details.other_tests).map_or(0, |others| others.tests),
        fee_back: recall.fee_back,
        fee_computed: confirmed.as_ref().and_then(|it| it.fee_back),
        issued: recall.issued,
        marked: confirmed.map(|it| it.since),
    })
}
