//! What has to be recalled: derived from what is stored, by comparing what a transfer was about with what is current
//! and what is marked of it now. Noted for each transfer until it is that far that it can be recalled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::artefact::recall::RecallReason;
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role};
use handover_core::{Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Row};
use handover_ingest::{Facts, is_retracted};
use handover_records::{
    Action, Changed, GrantRequest, LocalPatient, Permit, Purpose, RecordId, RecordRef, RecordSummary,
    Standing, Subject,
};
use handover_seal::Remembered;
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

use crate::context::Inner;
use crate::selection::{self, Chosen};
use crate::{ExchangeError, bodies, inboxes};

const DUE: &str = "recall-due";
/// Changed records that are looked at in one page.
const PAGE: usize = 1_000;
/// The most bytes of a resource that are read for what it says of itself.
const READ_MAX_BYTES: u64 = 64 * 1024 * 1024;

cbor_map! {
    /// A record that has to be recalled from a hospital, once the transfer that sent it is that far.
    pub(super) struct Due {
        /// The transfer.
        1 => transfer: TransferId,
        /// The record.
        2 => record: [u8; 16],
        /// The version that was sent.
        3 => version: u32,
        /// Why.
        4 => reason: RecallReason,
        /// When the newer version was recorded, if there is one.
        5 => replaced: Option<Timestamp>,
    }
}

impl Due {
    pub(super) fn new(transfer: TransferId, at: RecordRef, reason: RecallReason) -> Self {
        Self {
            transfer,
            record: *at.record.as_bytes(),
            version: at.version,
            reason,
            replaced: None,
            extensions: Extensions::default(),
        }
    }

    pub(super) const fn reference(&self) -> RecordRef {
        RecordRef { record: RecordId::from_bytes(self.record), version: self.version }
    }

    fn key(keys: &KeyMaker, transfer: TransferId, record: [u8; 16]) -> Vec<u8> {
        keys.space(DUE).raw(transfer.as_bytes()).hashed(record).build()
    }

    /// Notes it; of two reasons the graver stays.
    pub(super) fn put(&self, txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
        let key = Self::key(keys, self.transfer, self.record);
        let noted: Option<Self> = rows::get(txn, &key)?;
        if noted.is_some_and(|noted| noted.reason >= self.reason) {
            return Ok(());
        }
        rows::put(txn, &key, self)
    }

    pub(super) fn remove(&self, txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
        txn.remove(&Self::key(keys, self.transfer, self.record))
    }

    /// Some of a transfer; not one if there is none left.
    pub(super) fn of(
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        transfer: TransferId,
        limit: usize,
    ) -> Result<Vec<Self>, StoreError> {
        let page = txn.scan(&keys.space(DUE).raw(transfer.as_bytes()).build(), None, limit)?;
        page.iter().map(|(_, bytes)| rows::read(bytes)).collect()
    }
}

/// The transfers of which something is due.
pub(super) async fn transfers(inner: &Inner) -> Result<BTreeSet<TransferId>, ExchangeError> {
    let (mut transfers, mut after): (BTreeSet<TransferId>, Option<Vec<u8>>) = (BTreeSet::new(), None);
    loop {
        let (keys, from) = (inner.keys(), after.take());
        let read = inner
            .parts
            .store
            .read(move |txn| txn.scan(&keys.space(DUE).build(), from.as_deref(), SCAN_MAX_CELLS));
        let page: Vec<(Vec<u8>, Vec<u8>)> = read.await?;
        for (_, bytes) in &page {
            transfers.insert(rows::read::<Due>(bytes)?.transfer);
        }
        if page.len() < SCAN_MAX_CELLS {
            return Ok(transfers);
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

/// What a transfer was about.
pub(super) struct Sent {
    pub(super) row: Row,
    pub(super) chosen: Chosen,
}

/// What was sent of a patient, by transfer: those in which this hospital is the source and that came to something.
pub(super) fn sent(
    txn: &mut dyn Txn,
    inner: &Inner,
    patient: &LocalPatient,
    context: Context<'_>,
) -> Result<Vec<Sent>, ExchangeError> {
    let keys = &inner.keys();
    let (mut sent, mut after): (_, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let page = inboxes::page_of_local(txn, keys, patient, after.as_deref(), SCAN_MAX_CELLS)?;
        for (_, transfer) in &page {
            let Some(row) = Dossier::of(txn, keys, *transfer).row()? else { continue };
            if row.role != Role::Source || is_over(&row) {
                continue;
            }
            let Some(chosen) = selection::read(txn, keys, *transfer)? else { continue };
            if is_as_agreed(txn, inner, *transfer, context)? {
                sent.push(Sent { row, chosen });
            } else {
                tracing::error!(%transfer, "what was sent is not known any more: nothing of it is recalled");
            }
        }
        if page.len() < SCAN_MAX_CELLS {
            return Ok(sent);
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

/// Whether what is kept of a transfer is what both have agreed to: a store that was restored may have what was quoted before
/// the consent narrowed it, or nothing.
pub(super) fn is_as_agreed(
    txn: &mut dyn Txn,
    inner: &Inner,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<bool, DossierError> {
    let keys = inner.keys();
    let Some(priced) = bodies::get(txn, &inner.parts.keyring, &keys, transfer)? else { return Ok(false) };
    let quote = Dossier::of(txn, &keys, transfer).agreed_quote(context)?;
    Ok(bodies::is_of(&priced.body, &quote))
}

/// Whether nothing was sent, or came to be.
pub(super) fn is_over(row: &Row) -> bool {
    row.state.phase.is_final() && row.state.phase != Phase::Filed
}

/// Looks at every record that changed; those that were sent are due then.
pub(super) async fn look(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    loop {
        let changed = inner.parts.records.changed(PAGE).await?;
        let is_last = changed.len() < PAGE;
        let mut by_patient: BTreeMap<LocalPatient, Vec<Changed>> = BTreeMap::new();
        for one in changed {
            by_patient.entry(one.patient.clone()).or_default().push(one);
        }
        // One that cannot be looked at holds up no other.
        let mut failed = None;
        for (patient, changed) in by_patient {
            failed = look_at(inner, &patient, changed).await.err().or(failed);
        }
        match failed {
            Some(fault) => return Err(fault),
            None if is_last => return Ok(()),
            None => {}
        }
    }
}

async fn look_at(
    inner: &Arc<Inner>,
    patient: &LocalPatient,
    changed: Vec<Changed>,
) -> Result<(), ExchangeError> {
    let records: BTreeSet<RecordId> = changed.iter().map(|one| one.record).collect();
    let (work, whose, federation) = (Arc::clone(inner), patient.clone(), inner.federation()?);
    let read = inner.parts.store.read(move |txn| {
        let context = Context { federation: &federation, verifier: &Remembered };
        sent(txn, &work, &whose, context)
    });
    let mut sent = read.await?;
    sent.retain(|sent| sent.chosen.all().any(|at| records.contains(&at.record)));
    let due = if sent.is_empty() { Vec::new() } else { compare(inner, patient, &records, sent).await? };
    let (work, keys) = (Arc::clone(inner), inner.keys());
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        for one in &due {
            one.put(txn, &keys)?;
        }
        Ok(work.parts.records.settle_in(txn, &changed)?)
    });
    write.await
}

/// Compares what was sent of these records with what stands now.
async fn compare(
    inner: &Arc<Inner>,
    patient: &LocalPatient,
    records: &BTreeSet<RecordId>,
    sent: Vec<Sent>,
) -> Result<Vec<Due>, ExchangeError> {
    let request = GrantRequest::new(
        Subject::System("recalls".to_owned()),
        Action::Export,
        Purpose::Transfer,
        Some(patient.clone()),
    );
    let permit = inner.parts.records.audit().permit(request, inner.now()).await?;
    let (mut due, mut retracted) = (Vec::new(), BTreeMap::new());
    for Sent { row, chosen } in sent {
        let mut files = BTreeMap::new();
        for at in chosen.all().filter(|at| records.contains(&at.record)) {
            let Some(standing) = standing(inner, &permit, at).await? else { continue };
            let mut found = marked(&row, at, &standing);
            let Standing { asked, current } = standing;
            if asked.content_hash != current.content_hash {
                let is_gone = match retracted.get(&current.reference) {
                    Some(known) => *known,
                    None => is_retracted_now(inner, &permit, current.reference).await?,
                };
                retracted.insert(current.reference, is_gone);
                let reason = if is_gone { RecallReason::Retracted } else { RecallReason::Amended };
                if found.as_ref().is_none_or(|found| found.reason < reason) {
                    let replaced = Some(current.filed);
                    found = Some(Due { replaced, ..Due::new(row.transfer, at, reason) });
                }
            }
            if let Some(reason) = found.as_ref().map(|it| it.reason).filter(|it| *it > RecallReason::Amended)
            {
                let named = files_of(inner, &permit, &asked).await?;
                files.extend(named.into_iter().map(|file| (file, reason)));
            }
            // Nobody has a test that was not sent, so only its fee can be due.
            due.extend(found.filter(|found| !found.reason.keeps_fee() || !chosen.others.contains(&at)));
        }
        // A file says nothing of itself: it goes with the resource that named it.
        for at in chosen.records.into_iter().filter(|_| !files.is_empty()) {
            let Some(Standing { asked, .. }) = standing(inner, &permit, at).await? else { continue };
            if let Some(reason) = files.get(&asked.resource_id).filter(|_| asked.file.is_some()) {
                due.push(Due::new(row.transfer, at, *reason));
            }
        }
    }
    Ok(due)
}

async fn standing(
    inner: &Arc<Inner>,
    permit: &Permit,
    at: RecordRef,
) -> Result<Option<Standing>, ExchangeError> {
    let (work, leave, now) = (Arc::clone(inner), permit.clone(), inner.now());
    let read = inner.parts.store.read(move |txn| work.parts.records.standing_in(txn, &leave, now, at));
    Ok(read.await?)
}

/// The ids of the files that a version names.
async fn files_of(
    inner: &Arc<Inner>,
    permit: &Permit,
    version: &RecordSummary,
) -> Result<Vec<String>, ExchangeError> {
    if version.file.is_some() {
        return Ok(Vec::new());
    }
    let (_, content) = inner.parts.records.read(permit, inner.now(), version.reference).await?;
    let content = content.bytes(READ_MAX_BYTES).await?;
    let facts = std::str::from_utf8(&content).ok().and_then(|text| Facts::of(text).ok());
    let reference = format!("{}/{}", version.resource_type, version.resource_id);
    let attachments = facts.map(|facts| facts.attachments).unwrap_or_default();
    Ok(attachments.iter().map(|attachment| attachment.id(&reference)).collect())
}

/// What was marked since the transfer began. Earlier marks travelled in its package.
fn marked(row: &Row, at: RecordRef, standing: &Standing) -> Option<Due> {
    let mark = standing.asked.mark.as_ref().filter(|mark| mark.since >= row.created)?;
    Some(Due { replaced: mark.replaced, ..Due::new(row.transfer, at, mark.reason) })
}

async fn is_retracted_now(
    inner: &Arc<Inner>,
    permit: &Permit,
    current: RecordRef,
) -> Result<bool, ExchangeError> {
    let (summary, content) = inner.parts.records.read(permit, inner.now(), current).await?;
    if summary.file.is_some() {
        // A file says nothing of itself; of what it belongs to, the resource says it.
        return Ok(false);
    }
    let content = content.bytes(READ_MAX_BYTES).await?;
    Ok(std::str::from_utf8(&content).is_ok_and(is_retracted))
}
