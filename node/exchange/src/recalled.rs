//! What is kept of recalls, at both hospitals: their details, opened, sealed under a secret that can be forgotten; and
//! how a destination takes one in.
//!
//! Invariants: what is recalled is marked in the transaction that takes the recall in, with its audit line, or nothing
//! is taken; a record that was not filed from that source is never marked; nothing that is filed is changed.

use std::collections::BTreeSet;

use handover_core::artefact::Signed;
use handover_core::artefact::recall::{Recall, RecallConfirmed, RecallDetails, RecalledRecord};
use handover_core::artefact::transfer::QuoteBody;
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{RECALL_LABEL, part_binding};
use handover_core::rules::{self, Context};
use handover_core::{Amount, Code, HospitalId, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{
    Action, GrantRequest, LocalPatient, Mark, Origin, Purpose, Records, RecordsError, Subject,
};
use handover_seal::cell::{open_cell, seal_cell};
use handover_seal::part::open_part;
use handover_seal::{KeyRing, OsRandom};
use handover_store::{KeyMaker, Keyring, SCAN_MAX_CELLS, StoreError, Txn, rows};

use crate::fees::Gone;
use crate::{bodies, fees, inboxes};

const DETAILS: &str = "recall-details";
const OF_TRANSFER: &str = "recalled-transfer";

cbor_map! {
    /// A recall as its hospital reads it.
    pub(crate) struct Kept {
        /// Its details.
        1 => details: RecallDetails,
        /// What this hospital computes to be given back of the fee; what its source says, where the quote is not known any
        /// more.
        2 => fee_back: Amount,
        /// Which of its own records they are, at the source.
        3 => own: Vec<[u8; 16]>,
    }
}

/// For the transaction of a transfer: a records' fault as the code that it has.
pub(crate) fn of_records(fault: RecordsError) -> DossierError {
    match fault {
        RecordsError::Store(fault) => DossierError::Store(fault),
        other => DossierError::Refused(other.code()),
    }
}

fn bound(transfer: TransferId, number: u32) -> Vec<u8> {
    [DETAILS.as_bytes(), transfer.as_bytes(), &number.to_be_bytes()].concat()
}

/// Keeps a recall's details.
pub(crate) fn put(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    (transfer, number): (TransferId, u32),
    kept: &Kept,
) -> Result<(), StoreError> {
    let secret = keyring.get_or_make(txn, DETAILS, transfer.as_bytes(), &mut OsRandom)?;
    let sealed = seal_cell(&secret, &bound(transfer, number), &codec::encode(kept), &mut OsRandom)
        .map_err(|_| rows::damaged("a recall"))?;
    let place = keys.space(DETAILS).hashed(transfer.as_bytes()).u64(u64::from(number));
    rows::put_pieces(txn, &place, &sealed)
}

/// Notes that something of a transfer was recalled.
pub(crate) fn note(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<(), StoreError> {
    txn.put(&keys.space(OF_TRANSFER).raw(transfer.as_bytes()).build(), transfer.as_bytes().to_vec())
}

/// A recall's details; none if its patient is forgotten here, or was when it came.
pub(crate) fn get(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    (transfer, number): (TransferId, u32),
) -> Result<Option<Kept>, StoreError> {
    let place = keys.space(DETAILS).hashed(transfer.as_bytes()).u64(u64::from(number));
    let Some(sealed) = rows::get_pieces(txn, &place)? else { return Ok(None) };
    let damaged = || rows::damaged("a recall");
    let secret = keyring.get(txn, DETAILS, transfer.as_bytes())?.ok_or_else(damaged)?;
    let kept = open_cell(&secret, &bound(transfer, number), &sealed).map_err(|_| damaged())?;
    codec::decode(&kept, MAX_MESSAGE_BYTES).map(Some).map_err(|_| damaged())
}

/// Removes the details of a transfer's recalls: its patient is forgotten here.
pub(crate) fn remove(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), DossierError> {
    keyring.remove(txn, DETAILS, transfer.as_bytes())?;
    let last = Dossier::of(txn, keys, transfer).last_recall()?;
    for number in 1..=last {
        let place = keys.space(DETAILS).hashed(transfer.as_bytes()).u64(u64::from(number));
        rows::remove_pieces(txn, &place)?;
    }
    Ok(())
}

/// The transfers of which something was recalled, ascending; a page.
pub(crate) fn transfers(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<TransferId>,
) -> Result<(Vec<TransferId>, bool), StoreError> {
    let after = after.map(|transfer| keys.space(OF_TRANSFER).raw(transfer.as_bytes()).build());
    let page = txn.scan(&keys.space(OF_TRANSFER).build(), after.as_deref(), SCAN_MAX_CELLS)?;
    let is_last = page.len() < SCAN_MAX_CELLS;
    let read = |(_, id): (Vec<u8>, Vec<u8>)| {
        TransferId::try_from(id.as_slice()).map_err(|_| rows::damaged("a recalled transfer"))
    };
    Ok((page.into_iter().map(read).collect::<Result<_, _>>()?, is_last))
}

/// How a quote's line names a record of its source.
pub(crate) fn test(record: &RecalledRecord) -> String {
    format!("{}/{}", record.resource_type, record.resource_id)
}

/// How a quote's lines name a recall's records that were made at the source. What it had from others was never charged.
pub(crate) fn tests(details: &RecallDetails, source: &HospitalId) -> BTreeSet<String> {
    let of_source = details.records.iter().filter(|record| record.origin == *source);
    of_source.map(test).collect()
}

/// What a recall with these details, after those with numbers below `number`, gives back of the fee.
pub(crate) fn fee_back(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    (row, body): (&Row, &QuoteBody),
    number: u32,
    details: &RecallDetails,
) -> Result<Amount, DossierError> {
    if details.reason.keeps_fee() {
        return Ok(Amount::zero(body.fee.currency()));
    }
    let mut gone = Gone::default();
    let add = |gone: &mut Gone, details: &RecallDetails| {
        gone.lines.extend(tests(details, &row.source));
        details.other_tests.iter().for_each(|others| gone.add_others(others));
    };
    let mut given_minor = 0_i64;
    for earlier in 1..number {
        let recall = Dossier::of(txn, keys, row.transfer).get(Kind::Recall.of(earlier))?;
        if let Some(recall) = recall.and_then(|recall| Signed::<Recall>::read(&recall).ok()) {
            given_minor = given_minor.saturating_add(recall.claim().fee_back.minor());
        }
        let kept = get(txn, keyring, keys, (row.transfer, earlier))?;
        if let Some(kept) = kept.filter(|kept| !kept.details.reason.keeps_fee()) {
            add(&mut gone, &kept.details);
        }
    }
    let whole = fees::without(body, &Gone::default())?;
    add(&mut gone, details);
    // All that is due for what is known to be wrong, less all that went back: also for what is not known any more, after a
    // backup was restored, and may have been the same.
    let due = rules::fee_back(whole, fees::without(body, &gone)?)?;
    let left_minor = body.fee.minor().saturating_sub(given_minor);
    let back_minor = due.minor().saturating_sub(given_minor).min(left_minor).max(0);
    Ok(Amount::from_minor(back_minor, due.currency()))
}

/// What a destination takes a recall in with.
pub(crate) struct Desk<'a> {
    pub(crate) keys: &'a KeyMaker,
    pub(crate) keyring: &'a Keyring,
    pub(crate) records: &'a Records,
    pub(crate) ring: &'a KeyRing,
    /// Whether what the transfer brought is not here any more, for the store came from a backup.
    pub(crate) is_unfiled: bool,
}

impl Desk<'_> {
    /// Marks what a recall that was just taken in is about; the confirmation to be signed. A patient who was forgotten
    /// here since has nothing left that could be marked.
    ///
    /// # Errors
    /// [`Code::RecallMismatch`], [`Code::RecallUnknownRecord`] and the others of `rules::recall_details`; nothing is
    /// taken then.
    pub(crate) fn mark(
        &self,
        txn: &mut dyn Txn,
        row: &Row,
        number: u32,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<RecallConfirmed, DossierError> {
        let (recall, _) = Dossier::of(txn, self.keys, row.transfer).recall(number, context)?;
        let aad = part_binding(RECALL_LABEL, &row.transfer);
        let plain = open_part(self.ring, &aad, recall.sealed.as_ref()).map_err(|fault| fault.code())?;
        let details: RecallDetails = codec::decode(&plain, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        rules::recall_details(&details, &recall)?;
        let mut patient = inboxes::whose(txn, self.keys, row.transfer)?;
        if let Some(local) = &patient
            && self.records.is_being_forgotten_in(txn, local).map_err(of_records)?
        {
            patient = None;
        }
        let priced = bodies::get(txn, self.keyring, self.keys, row.transfer)?;
        let mut computed = None;
        if let Some(patient) = patient {
            self.mark_records(txn, row, &patient, &details, now)?;
            if let Some(priced) = priced {
                let of = (row, &priced.body);
                computed = Some(fee_back(txn, self.keyring, self.keys, of, number, &details)?);
            }
            if computed.is_some_and(|back| back != recall.fee_back) {
                tracing::warn!(transfer = %row.transfer, number, "a recall gives back another fee than the lines come to");
            }
            let fee_back = computed.unwrap_or(recall.fee_back);
            let kept = Kept { details, fee_back, own: Vec::new(), extensions: Extensions::default() };
            put(txn, self.keyring, self.keys, (row.transfer, number), &kept)?;
        }
        Ok(RecallConfirmed {
            transfer: row.transfer,
            number,
            recall: recall.hash(),
            since: now,
            fee_back: computed,
            extensions: Extensions::default(),
        })
    }

    fn mark_records(
        &self,
        txn: &mut dyn Txn,
        row: &Row,
        patient: &LocalPatient,
        details: &RecallDetails,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let request = GrantRequest {
            transfer: Some(row.transfer),
            ..GrantRequest::new(
                Subject::Hospital(row.source.clone()),
                Action::Recall,
                Purpose::Transfer,
                Some(patient.clone()),
            )
        };
        let permit = self.records.audit().permit_in(txn, &request, now).map_err(of_records)?;
        for record in &details.records {
            let origin = Origin::Received {
                source: row.source.clone(),
                origin: record.origin.clone(),
                transfer: row.transfer,
            };
            let name = (&origin, record.resource_type.as_str(), record.resource_id.as_str());
            let versions = self.records.versions_in(txn, &permit, now, name, &record.content_hash);
            let versions = versions.map_err(of_records)?;
            if versions.is_empty() && !self.is_unfiled {
                return Err(Code::RecallUnknownRecord.into());
            }
            let mark = Mark {
                reason: details.reason,
                by: row.source.clone(),
                since: now,
                replaced: record.replaced,
            };
            for at in versions {
                self.records.mark_in(txn, &permit, now, at, &mark).map_err(of_records)?;
            }
        }
        Ok(())
    }
}
