//! Referrals: this hospital sends a patient to another one, which then owes the fee of what it is quoted.
//!
//! One stands for a patient and a destination at a time. It travels with the quote; the doctor's name is sealed to the
//! destination. Withdrawing it, or its end, changes nothing in quotes that were made on it.

use handover_core::artefact::transfer::{
    REFERRAL_MAX_LIFE_MS, REFERRAL_TEXT_MAX_CHARS, Referral, ReferralDetails,
};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::REFERRAL_LABEL;
use handover_core::{Code, HospitalId, PatientRef, Timestamp, cbor_map};
use handover_records::{Action, Departments, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::part::{open_part, seal_part};
use handover_seal::{KeyRing, OsRandom, RsaPublicKey};
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::{Exchange, ExchangeError};

const REFERRAL: &str = "referral";
/// Referrals that can stand at once.
const REFERRALS_MAX: usize = 10_000;

cbor_map! {
    /// A referral as it is kept.
    struct ReferralRow {
        /// `Referral`.
        1 => referral: Bytes,
        /// What is sealed in it.
        2 => details: ReferralDetails,
        /// The hospital's own identifier of the patient.
        3 => patient: String,
    }
}

/// A referral that stands.
#[derive(Clone, Debug)]
pub struct Referred {
    /// The hospital's own identifier of the patient.
    pub patient: LocalPatient,
    /// To whom.
    pub destination: HospitalId,
    /// Who refers.
    pub doctor: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub issued: Timestamp,
    /// Until when quotes are made on it.
    pub expires: Timestamp,
}

impl Exchange {
    /// Refers a linked patient to another hospital. The same again gives the referral that stands.
    ///
    /// # Errors
    /// [`Code::NotLinked`]; [`Code::UsageInvalid`] for a text or time out of bounds; [`Code::Conflict`] while one with
    /// other words stands; why the other hospital takes no part.
    pub async fn refer(
        &self,
        staff: &str,
        patient: &LocalPatient,
        destination: &HospitalId,
        (doctor, reason): (&str, Option<&str>),
        life_ms: i64,
    ) -> Result<Referred, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let is_text = |text: &str| {
            let chars = text.chars().count();
            (1..=REFERRAL_TEXT_MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control)
        };
        let lasts = (1..=REFERRAL_MAX_LIFE_MS).contains(&life_ms);
        if !is_text(doctor) || !reason.is_none_or(is_text) || !lasts || destination == inner.own() {
            return Err(Code::UsageInvalid.into());
        }
        let rsa = inner.federation()?.active(destination, now)?.profile.rsa_key.clone();
        let rsa = RsaPublicKey::from_spki_der(rsa.as_ref())?;
        let details = ReferralDetails {
            doctor: doctor.to_owned(),
            reason: reason.map(str::to_owned),
            extensions: Extensions::default(),
        };
        let _permit = self.referral_permit(staff, patient).await?;
        let (work, keys) = (std::sync::Arc::clone(inner), inner.keys());
        let (patient, destination) = (patient.clone(), destination.clone());
        inner
            .parts
            .store
            .write(move |txn| -> Result<Referred, ExchangeError> {
                let mut first = None;
                for whose in work.parts.records.refs_in(txn, &patient)? {
                    let key = place(&keys, &whose, &destination);
                    if let Some(row) = standing_row(txn, &key, now)? {
                        if row.details != details {
                            return Err(Code::Conflict.into());
                        }
                        first = Some(referred(&row)?);
                        continue;
                    }
                    make_room(txn, &keys, now)?;
                    let sealed = seal_part(&rsa, &binding(&whose), &codec::encode(&details), &mut OsRandom)?;
                    let referral = Referral {
                        patient: whose,
                        source: work.own().clone(),
                        destination: destination.clone(),
                        sealed: sealed.into(),
                        issued: now,
                        expires: now.plus_ms(life_ms),
                        extensions: Extensions::default(),
                    };
                    let row = ReferralRow {
                        referral: Verified::sign(referral, &work.parts.identity.signing)
                            .envelope()
                            .to_vec()
                            .into(),
                        details: details.clone(),
                        patient: patient.to_string(),
                        extensions: Extensions::default(),
                    };
                    rows::put(txn, &key, &row)?;
                    first = Some(referred(&row)?);
                }
                first.ok_or_else(|| Code::NotLinked.into())
            })
            .await
    }

    /// The referrals that stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn referrals(&self) -> Result<Vec<Referred>, ExchangeError> {
        let (keys, now) = (self.0.keys(), self.0.now());
        let read = self.0.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let all: Vec<ReferralRow> = rows::all(txn, &keys.space(REFERRAL).build())?;
            Ok(all.iter().map(referred).collect::<Result<Vec<_>, _>>()?)
        });
        Ok(read.await?.into_iter().filter(|it| now < it.expires).collect())
    }

    /// Withdraws a patient's referral to a hospital; what was quoted on it stays.
    ///
    /// # Errors
    /// [`Code::ReferralMismatch`] if none stands.
    pub async fn withdraw_referral(
        &self,
        staff: &str,
        patient: &LocalPatient,
        destination: &HospitalId,
    ) -> Result<(), ExchangeError> {
        let _permit = self.referral_permit(staff, patient).await?;
        let (work, keys) = (std::sync::Arc::clone(&self.0), self.0.keys());
        let (patient, destination) = (patient.clone(), destination.clone());
        let write = self.0.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let mut found = false;
            for whose in work.parts.records.refs_in(txn, &patient)? {
                let key = place(&keys, &whose, &destination);
                found |= txn.get(&key)?.is_some();
                txn.remove(&key)?;
            }
            if found { Ok(()) } else { Err(Code::ReferralMismatch.into()) }
        });
        write.await
    }

    async fn referral_permit(&self, staff: &str, patient: &LocalPatient) -> Result<Permit, ExchangeError> {
        let request = GrantRequest {
            subject: Subject::Staff { name: staff.to_owned() },
            action: Action::Refer,
            purpose: Purpose::Administration,
            patient: Some(patient.clone()),
            departments: Departments::All,
            transfer: None,
        };
        Ok(self.0.parts.records.audit().permit(request, self.0.now()).await?)
    }
}

/// The referral that stands for a patient and a hospital, whole.
pub(crate) fn standing(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: &PatientRef,
    destination: &HospitalId,
    now: Timestamp,
) -> Result<Option<Bytes>, StoreError> {
    Ok(standing_row(txn, &place(keys, patient, destination), now)?.map(|row| row.referral))
}

/// Forgets the referrals of these patients.
pub(crate) fn forget(txn: &mut dyn Txn, keys: &KeyMaker, patients: &[PatientRef]) -> Result<(), StoreError> {
    for patient in patients {
        let prefix = keys.space(REFERRAL).hashed(patient.as_bytes()).build();
        for (key, _) in txn.scan(&prefix, None, handover_store::SCAN_MAX_CELLS)? {
            txn.remove(&key)?;
        }
    }
    Ok(())
}

/// What the destination reads of a referral.
pub(crate) fn open(envelope: &[u8], ring: &KeyRing) -> Result<ReferralDetails, ExchangeError> {
    let referral = Signed::<Referral>::read(envelope).map_err(|fault| fault.code())?;
    let referral = referral.claim();
    let plain = open_part(ring, &binding(&referral.patient), referral.sealed.as_ref())?;
    Ok(codec::decode(&plain, MAX_MESSAGE_BYTES)?)
}

fn place(keys: &KeyMaker, patient: &PatientRef, destination: &HospitalId) -> Vec<u8> {
    keys.space(REFERRAL).hashed(patient.as_bytes()).hashed(destination.as_str()).build()
}

fn binding(patient: &PatientRef) -> Vec<u8> {
    [REFERRAL_LABEL, patient.as_bytes()].concat()
}

fn standing_row(txn: &mut dyn Txn, key: &[u8], now: Timestamp) -> Result<Option<ReferralRow>, StoreError> {
    let Some(row) = rows::get::<ReferralRow>(txn, key)? else { return Ok(None) };
    let referral =
        Signed::<Referral>::read(row.referral.as_ref()).map_err(|_| rows::damaged("a referral"))?;
    Ok(Some(row).filter(|_| now < referral.claim().expires))
}

/// Removes those that ended, if there are too many.
fn make_room(txn: &mut dyn Txn, keys: &KeyMaker, now: Timestamp) -> Result<(), ExchangeError> {
    let all = keys.space(REFERRAL).build();
    let mut count = 0_usize;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.scan(&all, after.as_deref(), handover_store::SCAN_MAX_CELLS)?;
        let is_last = page.len() < handover_store::SCAN_MAX_CELLS;
        after = page.last().map(|(key, _)| key.clone());
        for (key, _) in page {
            if standing_row(txn, &key, now)?.is_some() {
                count = count.saturating_add(1);
            } else {
                txn.remove(&key)?;
            }
        }
        if is_last {
            break;
        }
    }
    if count < REFERRALS_MAX { Ok(()) } else { Err(Code::Busy.into()) }
}

fn referred(row: &ReferralRow) -> Result<Referred, StoreError> {
    let damaged = || rows::damaged("a referral");
    let referral = Signed::<Referral>::read(row.referral.as_ref()).map_err(|_| damaged())?;
    let referral = referral.claim();
    Ok(Referred {
        patient: row.patient.parse().map_err(|_| damaged())?,
        destination: referral.destination.clone(),
        doctor: row.details.doctor.clone(),
        reason: row.details.reason.clone(),
        issued: referral.issued,
        expires: referral.expires,
    })
}
