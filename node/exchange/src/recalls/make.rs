//! Making recalls of what is due: gathered for each transfer and reason, signed, kept and sent in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::recall::{
    RECALL_MAX_RECORDS, RECALLS_MAX, Recall, RecallDetails, RecallReason, RecalledRecord,
};
use handover_core::artefact::transfer::PackageHeader;
use handover_core::codec::{self, Extensions};
use handover_core::message::{RECALL_LABEL, part_binding};
use handover_core::rules::Context;
use handover_core::transfer::Phase;
use handover_core::{Code, Random as _, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Row, Taken};
use handover_records::{
    Action, GrantRequest, LocalPatient, Permit, Purpose, RecordRef, RecordSummary, Subject,
};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, Remembered, RsaPublicKey};
use handover_store::{KeyMaker, Txn};

use super::due::{self, Due};
use crate::bodies::{self, Priced};
use crate::charged::{self, Account};
use crate::context::{Came, Inner};
use crate::recalled::{self, Kept, of_records, test};
use crate::{ExchangeError, inboxes, rejoin, selection};

/// Recalls everything that is due and can be recalled by now.
pub(super) async fn everything(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    for transfer in due::transfers(inner).await? {
        // Once it may.
        if rejoin::may_work(inner, &inner.row(transfer).await?).is_err() {
            continue;
        }
        // One that has to wait holds up no other.
        if let Err(fault) = of_transfer(inner, transfer).await {
            tracing::error!(%transfer, code = %fault.code(), detail = %fault, "a recall has to wait");
        }
    }
    Ok(())
}

/// Recalls what is due of a transfer, if it is that far: filed, or released and nobody says any more that it is filed.
/// What is not is recalled once it is; what came to nothing is not due any more.
pub(super) async fn of_transfer(inner: &Arc<Inner>, transfer: TransferId) -> Result<(), ExchangeError> {
    loop {
        let (work, federation, now) = (Arc::clone(inner), inner.federation()?, inner.now());
        let write = inner.parts.store.write(move |txn| {
            let context = Context { federation: &federation, verifier: &Remembered };
            some(txn, &work, transfer, context, now)
        });
        let (taken, is_last) = write.await?;
        for taken in taken {
            inner.wake(&taken);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Recalls some of what is due, as much as is one transaction's; whether nothing is left that can be.
fn some(
    txn: &mut dyn Txn,
    inner: &Inner,
    transfer: TransferId,
    context: Context<'_>,
    now: Timestamp,
) -> Result<(Vec<Taken>, bool), DossierError> {
    let keys = inner.keys();
    let mut dossier = Dossier::of(txn, &keys, transfer);
    let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
    let is_open = match row.state.phase {
        // While the consent holds, the patient may release and the destination file.
        Phase::Released => now >= dossier.consent(context)?.expires,
        phase => phase > Phase::Released,
    };
    if !is_open {
        return Ok((Vec::new(), true));
    }
    let due = Due::of(txn, &keys, transfer, RECALL_MAX_RECORDS)?;
    if due.is_empty() {
        return Ok((Vec::new(), true));
    }
    let mut taken = Vec::new();
    if !due::is_over(&row)
        && let Some(patient) = inboxes::whose(txn, &keys, transfer)?
        && due::is_as_agreed(txn, inner, transfer, context)?
    {
        let source = Source { inner, keys: &keys, row: &row, context, now };
        taken = source.recall(txn, patient, &due)?;
    }
    for one in &due {
        one.remove(txn, &keys)?;
    }
    Ok((taken, due.len() < RECALL_MAX_RECORDS))
}

/// What was wrong of a transfer, for one reason.
#[derive(Default)]
pub(super) struct Wrong {
    /// This hospital's records, all of them.
    own: Vec<[u8; 16]>,
    /// Those that were sent.
    pub(super) records: Vec<RecalledRecord>,
    /// Those that were not, of tests that its fee was made of.
    pub(super) others: Vec<RecalledRecord>,
}

impl Wrong {
    /// What is told to the destination: of what it was not sent only how many tests, and their sum. Without salt.
    pub(super) fn details(&self, reason: RecallReason, priced: &Priced) -> Result<RecallDetails, Code> {
        let others: BTreeSet<String> = self.others.iter().map(test).collect();
        let gone = priced.charged_others().filter(|line| others.contains(&line.record));
        Ok(RecallDetails {
            reason,
            records: self.records.clone(),
            salt: [0; 16],
            other_tests: bodies::summed(gone, priced.body.fee.currency())?,
            extensions: Extensions::default(),
        })
    }
}

/// The source of a transfer, inside a transaction.
struct Source<'a> {
    inner: &'a Inner,
    keys: &'a KeyMaker,
    row: &'a Row,
    context: Context<'a>,
    now: Timestamp,
}

impl Source<'_> {
    fn recall(
        &self,
        txn: &mut dyn Txn,
        patient: LocalPatient,
        due: &[Due],
    ) -> Result<Vec<Taken>, DossierError> {
        let known = known(txn, self.inner, self.keys, self.row.transfer)?;
        // A consent may have narrowed what was quoted since.
        let chosen = selection::read(txn, self.keys, self.row.transfer)?.unwrap_or_default();
        let sent: BTreeSet<RecordRef> = chosen.records.iter().copied().collect();
        let all: BTreeSet<RecordRef> = chosen.all().collect();
        let is_new = |due: &&Due| {
            let before = known.get(&due.record);
            // Of a test that was not sent only the fee goes back, and that once.
            let is_graver = sent.contains(&due.reference()) && before < Some(&due.reason);
            all.contains(&due.reference()) && (before.is_none() || is_graver)
        };
        let due: Vec<&Due> = due.iter().filter(is_new).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let request = GrantRequest {
            transfer: Some(self.row.transfer),
            ..GrantRequest::new(
                Subject::System("recalls".to_owned()),
                Action::Recall,
                Purpose::Transfer,
                Some(patient),
            )
        };
        let permit = self.inner.parts.records.audit().permit_in(txn, &request, self.now);
        let permit = permit.map_err(of_records)?;
        let mut by_reason: BTreeMap<RecallReason, Wrong> = BTreeMap::new();
        for one in due {
            let named = name(txn, self.inner, &permit, one.reference(), one.replaced, self.now)?;
            let Some(named) = named else { continue };
            let wrong = by_reason.entry(one.reason).or_default();
            wrong.own.push(one.record);
            match sent.contains(&one.reference()) {
                true => wrong.records.push(named),
                false => wrong.others.push(named),
            }
        }
        let header =
            Dossier::of(txn, self.keys, self.row.transfer).header(self.row.state.attempt, self.context)?;
        let mut taken = Vec::new();
        for (reason, wrong) in by_reason {
            taken.extend(self.sign(txn, &header, reason, wrong)?);
        }
        Ok(taken)
    }

    fn sign(
        &self,
        txn: &mut dyn Txn,
        header: &Verified<PackageHeader>,
        reason: RecallReason,
        wrong: Wrong,
    ) -> Result<Option<Taken>, DossierError> {
        let (row, parts) = (self.row, &self.inner.parts);
        let transfer = row.transfer;
        let number = Dossier::of(txn, self.keys, transfer).last_recall()?.saturating_add(1);
        if number > RECALLS_MAX {
            return Err(Code::RecallsExhausted.into());
        }
        let priced = bodies::get(txn, &parts.keyring, self.keys, transfer)?.ok_or(Code::StoreDamaged)?;
        let details = RecallDetails { salt: OsRandom.array(), ..wrong.details(reason, &priced)? };
        let fee_back =
            recalled::fee_back(txn, &parts.keyring, self.keys, (row, &priced.body), number, &details)?;
        let patient = inboxes::whose(txn, self.keys, transfer)?;
        if let (Some(patient), false) = (patient, reason.keeps_fee()) {
            let account = Account {
                patient,
                reference: row.patient,
                payer: priced.body.payer,
                destination: row.destination.clone(),
            };
            let mut tests = recalled::tests(&details, &row.source);
            tests.extend(wrong.others.iter().map(test));
            charged::give_back(txn, self.keys, &account, transfer, &tests)?;
        }
        // A test that was not sent, and of whose fee nothing goes back any more.
        if details.records.is_empty() && fee_back.minor() == 0 {
            return Ok(None);
        }
        let profile = &self.context.federation.member(&row.destination)?.profile;
        let sealed = RsaPublicKey::from_spki_der(profile.rsa_key.as_ref()).and_then(|rsa| {
            let aad = part_binding(RECALL_LABEL, &transfer);
            seal_part(&rsa, &aad, &codec::encode(&details), &mut OsRandom)
        });
        let recall = Recall {
            transfer,
            number,
            header: header.hash(),
            commitment: details.commitment(),
            fee_back,
            sealed: sealed.map_err(|fault| fault.code())?.into(),
            issued: self.now,
            extensions: Extensions::default(),
        };
        let recall = Verified::sign(recall, &parts.identity.signing);
        let kept = Kept { details, fee_back, own: wrong.own, extensions: Extensions::default() };
        recalled::put(txn, &parts.keyring, self.keys, (transfer, number), &kept)?;
        let envelope = recall.envelope();
        let taken =
            self.inner.take_in(txn, self.keys, transfer, envelope, Came::Own, self.context, self.now)?;
        Ok(Some(taken))
    }
}

/// What was recalled of a transfer before, and for what gravest reason.
pub(super) fn known(
    txn: &mut dyn Txn,
    inner: &Inner,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<BTreeMap<[u8; 16], RecallReason>, DossierError> {
    let mut known: BTreeMap<[u8; 16], RecallReason> = BTreeMap::new();
    let last = Dossier::of(txn, keys, transfer).last_recall()?;
    for number in 1..=last {
        let kept = recalled::get(txn, &inner.parts.keyring, keys, (transfer, number))?;
        let Some(kept) = kept else { continue };
        for record in kept.own {
            let reason = known.entry(record).or_insert(kept.details.reason);
            *reason = kept.details.reason.max(*reason);
        }
    }
    Ok(known)
}

/// A record version as a package names it; none if it is not here any more.
pub(super) fn name(
    txn: &mut dyn Txn,
    inner: &Inner,
    permit: &Permit,
    at: RecordRef,
    replaced: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<RecalledRecord>, DossierError> {
    let standing = inner.parts.records.standing_in(txn, permit, now, at).map_err(of_records)?;
    Ok(standing.map(|standing| {
        let RecordSummary { origin, resource_type, resource_id, content_hash, .. } = standing.asked;
        RecalledRecord {
            origin: origin.hospital().unwrap_or_else(|| inner.own()).clone(),
            resource_type,
            resource_id,
            content_hash,
            replaced,
            extensions: Extensions::default(),
        }
    }))
}
