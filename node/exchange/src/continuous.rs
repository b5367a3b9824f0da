//! Continuous consents that are live at this hospital: those whose first transfer is filed. At the source with what the
//! destination has under them; at the destination with the patient's share, which opens every delivery.
//!
//! Invariants: a row stands from the transaction that files the first transfer until the consent has ended and nothing
//! is under way under it; the share goes in the transaction that removes the row; both go with a patient who is
//! forgotten.

use std::collections::BTreeMap;

use handover_core::artefact::patient::{Consent, ConsentMode};
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role};
use handover_core::{Code, Digest, PatientRef, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{RecordId, RecordRef};
use handover_store::{KeyBuilder, KeyMaker, Keyring, SCAN_MAX_CELLS, StoreError, Txn, rows};

use crate::{bodies, secrets, selection};

const LIVE: &str = "continuous";

cbor_map! {
    /// A live consent.
    pub(crate) struct Live {
        /// The transfer that it was given for.
        1 => origin: TransferId,
        /// Whose.
        2 => patient: PatientRef,
        /// When it ends by itself.
        3 => expires: Timestamp,
        /// What the last delivery was about, if it came to nothing.
        4 => failed: Option<Failed>,
    }
}

cbor_map! {
    /// A delivery that came to nothing: the same is not begun again at once.
    pub(crate) struct Failed {
        /// The record versions that it was about.
        1 => versions: Digest,
        /// Why.
        2 => code: Code,
    }
}

fn of_patient(keys: &KeyMaker, patient: &PatientRef) -> KeyBuilder {
    keys.space(LIVE).hashed(patient.as_bytes())
}

fn key(keys: &KeyMaker, patient: &PatientRef, origin: TransferId) -> Vec<u8> {
    of_patient(keys, patient).raw(origin.as_bytes()).build()
}

/// The live consent that a transfer was the first under.
pub(crate) fn get(txn: &mut dyn Txn, keys: &KeyMaker, row: &Row) -> Result<Option<Live>, StoreError> {
    rows::get(txn, &key(keys, &row.patient, row.transfer))
}

/// A page of all live consents, with the key that pages on.
pub(crate) fn page(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: Option<&PatientRef>,
    after: Option<&[u8]>,
) -> Result<(Vec<Live>, Option<Vec<u8>>), StoreError> {
    let prefix = patient.map_or_else(|| keys.space(LIVE), |patient| of_patient(keys, patient)).build();
    let cells = txn.scan(&prefix, after, SCAN_MAX_CELLS)?;
    let next = cells.last().filter(|_| cells.len() == SCAN_MAX_CELLS).map(|(key, _)| key.clone());
    Ok((cells.iter().map(|(_, value)| rows::read(value)).collect::<Result<_, _>>()?, next))
}

/// All live consents of a patient.
pub(crate) fn of(txn: &mut dyn Txn, keys: &KeyMaker, patient: &PatientRef) -> Result<Vec<Live>, StoreError> {
    Ok(page(txn, keys, Some(patient), None)?.0)
}

/// Whether a consent holds now and was not taken back.
pub(crate) fn holds(
    dossier: &mut Dossier<'_>,
    consent: &Consent,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(now < consent.expires && dossier.get(Kind::Revocation)?.is_none())
}

/// What follows for its consent from how a transfer stands now: the first that is filed makes a continuous consent live;
/// at the source, what a filed delivery brought is noted, and one that came to nothing, too; a consent that has ended
/// goes once nothing is under way.
pub(crate) fn follow(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    row: &Row,
    context: Context<'_>,
    now: Timestamp,
) -> Result<(), DossierError> {
    let is_filed = row.state.phase == Phase::Filed;
    let origin = match row.origin {
        Some(origin) => origin,
        None if !is_filed => return Ok(()),
        None => row.transfer,
    };
    let mut dossier = Dossier::of(txn, keys, origin);
    let Some(first) = dossier.row()? else { return Ok(()) };
    let consent = dossier.consent(context)?;
    if consent.mode == ConsentMode::OneTime {
        return Ok(());
    }
    let live = get(txn, keys, &first)?;
    if row.origin.is_none() && live.is_none() && holds(&mut Dossier::of(txn, keys, origin), &consent, now)? {
        let live = Live {
            origin,
            patient: row.patient,
            expires: consent.expires,
            failed: None,
            extensions: Extensions::default(),
        };
        rows::put(txn, &key(keys, &row.patient, origin), &live)?;
    }
    if row.role == Role::Source && row.state.phase.is_final() && row.origin.is_some() {
        if let (false, Some(mut live)) = (is_filed, live) {
            let priced = bodies::get(txn, keyring, keys, row.transfer)?;
            let code = row.state.reason.unwrap_or(Code::OutOfOrder);
            live.failed = priced.map(|it| Failed {
                versions: it.body.versions,
                code,
                extensions: Extensions::default(),
            });
            rows::put(txn, &key(keys, &row.patient, origin), &live)?;
        } else if is_filed {
            let mut sent = sent(txn, keys, origin)?;
            sent.extend(versions(txn, keys, row.transfer)?);
            let sent: Vec<_> =
                sent.into_iter().map(|(record, version)| RecordRef { record, version }).collect();
            selection::put_sent(txn, keys, origin, &sent)?;
        }
    }
    settle(txn, keyring, keys, &first, &consent, now)
}

fn versions(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<BTreeMap<RecordId, u32>, StoreError> {
    let chosen = selection::read(txn, keys, transfer)?.unwrap_or_default();
    Ok(chosen.records.into_iter().map(|it| (it.record, it.version)).collect())
}

/// Which version of each record the destination has under a consent: the first transfer's, and what was delivered since.
pub(crate) fn sent(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    origin: TransferId,
) -> Result<BTreeMap<RecordId, u32>, StoreError> {
    match selection::read_sent(txn, keys, origin)? {
        Some(sent) => Ok(sent.into_iter().map(|it| (it.record, it.version)).collect()),
        None => versions(txn, keys, origin),
    }
}

/// Removes what is live of a consent that has ended, unless a delivery is under way; says whether it is over.
pub(crate) fn settle(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    first: &Row,
    consent: &Consent,
    now: Timestamp,
) -> Result<(), DossierError> {
    let mut dossier = Dossier::of(txn, keys, first.transfer);
    let is_over = first.state.phase == Phase::Filed
        && !holds(&mut dossier, consent, now)?
        && dossier.under_way()?.is_none();
    if is_over {
        end(txn, keyring, keys, &first.patient, first.transfer)?;
    }
    Ok(())
}

/// Removes what is live of a consent.
pub(crate) fn end(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    patient: &PatientRef,
    origin: TransferId,
) -> Result<(), StoreError> {
    secrets::forget_grant_key(txn, keyring, origin)?;
    selection::remove_sent(txn, keys, origin)?;
    txn.remove(&key(keys, patient, origin))
}

/// Nothing of these patients goes on here.
pub(crate) fn forget(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    patients: &[PatientRef],
) -> Result<(), StoreError> {
    for patient in patients {
        for live in of(txn, keys, patient)? {
            end(txn, keyring, keys, patient, live.origin)?;
        }
    }
    Ok(())
}
