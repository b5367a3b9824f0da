//! Referrals: this hospital sends a patient to another one, which then owes the fee of what it is quoted.
//!
//! One stands for a patient and a destination at a time. It travels with the quote; the doctor's name is sealed to the
//! destination, and here under a secret that can be forgotten. Withdrawing it, or its end, changes nothing in quotes
//! that were made on it.

use std::sync::Arc;

use handover_core::artefact::transfer::{
    REFERRAL_MAX_LIFE_MS, REFERRAL_TEXT_MAX_CHARS, Referral, ReferralDetails,
};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::REFERRAL_LABEL;
use handover_core::{Code, HospitalId, PatientRef, Timestamp, cbor_map};
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::cell::{open_cell, seal_cell};
use handover_seal::part::{open_part, seal_part};
use handover_seal::{KeyRing, OsRandom, RsaPublicKey};
use handover_store::{KeyMaker, Keyring, SCAN_MAX_CELLS, StoreError, Txn, rows};

use crate::context::Inner;
use crate::{Exchange, ExchangeError};

const REFERRAL: &str = "referral";
/// Referrals that can stand at once.
const REFERRALS_MAX: usize = 10_000;

cbor_map! {
    /// A referral as it is kept.
    struct ReferralRow {
        /// `Referral`.
        1 => referral: Bytes,
        /// [`Kept`], sealed.
        2 => sealed: Bytes,
    }
}

cbor_map! {
    /// What this hospital's desk knows of a referral.
    struct Kept {
        /// What is sealed to the destination.
        1 => details: ReferralDetails,
        /// The hospital's own identifier of the patient.
        2 => patient: String,
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
    /// other words or for another time stands; why the other hospital takes no part.
    pub async fn refer(
        &self,
        staff: &str,
        patient: &LocalPatient,
        destination: &HospitalId,
        (doctor, reason): (&str, Option<&str>),
        life_ms: i64,
    ) -> Result<Referred, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let details = ReferralDetails {
            doctor: doctor.to_owned(),
            reason: reason.map(str::to_owned),
            extensions: Extensions::default(),
        };
        let lasts = (1..=REFERRAL_MAX_LIFE_MS).contains(&life_ms);
        if !is_readable(&details) || !lasts || destination == inner.own() {
            return Err(Code::UsageInvalid.into());
        }
        let rsa = inner.federation()?.active(destination, now)?.profile.rsa_key.clone();
        let rsa = RsaPublicKey::from_spki_der(rsa.as_ref())?;
        let _permit = self.referral_permit(staff, patient).await?;
        let (work, keys, patient) = (Arc::clone(inner), inner.keys(), patient.clone());
        let destination = destination.clone();
        inner
            .parts
            .store
            .write(move |txn| -> Result<Referred, ExchangeError> {
                let mut standing = None;
                for whose in work.parts.records.refs_in(txn, &patient)? {
                    let key = place(&keys, &whose, &destination);
                    if let Some(row) = standing_row(txn, &key, now)? {
                        let held = referred(txn, &work.parts.keyring, &row)?;
                        let same = held.doctor == details.doctor
                            && held.reason == details.reason
                            && held.expires.since_ms(held.issued) == life_ms;
                        if !same {
                            return Err(Code::Conflict.into());
                        }
                        standing = Some(held);
                        continue;
                    }
                    make_room(txn, &work.parts.keyring, &keys, now)?;
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
                    let row = new_row(txn, &work, referral, &details, &patient)?;
                    rows::put(txn, &key, &row)?;
                    standing = Some(referred(txn, &work.parts.keyring, &row)?);
                }
                standing.ok_or_else(|| Code::NotLinked.into())
            })
            .await
    }

    /// The referrals that stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn referrals(&self) -> Result<Vec<Referred>, ExchangeError> {
        let (keys, keyring, now) = (self.0.keys(), self.0.parts.keyring.clone(), self.0.now());
        let read = self.0.parts.store.read(move |txn| -> Result<Vec<Referred>, StoreError> {
            let all: Vec<ReferralRow> = rows::all(txn, &keys.space(REFERRAL).build())?;
            all.iter().map(|row| referred(txn, &keyring, row)).collect()
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
        let (work, keys, patient) = (Arc::clone(&self.0), self.0.keys(), patient.clone());
        let destination = destination.clone();
        let write = self.0.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let mut found = false;
            for whose in work.parts.records.refs_in(txn, &patient)? {
                let key = place(&keys, &whose, &destination);
                if let Some(row) = rows::get::<ReferralRow>(txn, &key)? {
                    remove(txn, &work.parts.keyring, &key, &row)?;
                    found = true;
                }
            }
            if found { Ok(()) } else { Err(Code::ReferralMismatch.into()) }
        });
        write.await
    }

    async fn referral_permit(&self, staff: &str, patient: &LocalPatient) -> Result<Permit, ExchangeError> {
        let request = GrantRequest::new(
            Subject::staff(staff),
            Action::Refer,
            Purpose::Administration,
            Some(patient.clone()),
        );
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
pub(crate) fn forget(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    patients: &[PatientRef],
) -> Result<(), StoreError> {
    for patient in patients {
        let prefix = keys.space(REFERRAL).hashed(patient.as_bytes()).build();
        for (key, value) in txn.scan(&prefix, None, SCAN_MAX_CELLS)? {
            remove(txn, keyring, &key, &rows::read(&value)?)?;
        }
    }
    Ok(())
}

/// What the destination reads of a referral.
pub(crate) fn open(envelope: &[u8], ring: &KeyRing) -> Result<ReferralDetails, ExchangeError> {
    let referral = Signed::<Referral>::read(envelope).map_err(|fault| fault.code())?;
    let referral = referral.claim();
    let plain = open_part(ring, &binding(&referral.patient), referral.sealed.as_ref())?;
    let details: ReferralDetails = codec::decode(&plain, MAX_MESSAGE_BYTES)?;
    if is_readable(&details) { Ok(details) } else { Err(Code::Malformed.into()) }
}

/// Whether a desk can show it: another hospital's words go to a terminal.
fn is_readable(details: &ReferralDetails) -> bool {
    let is_text = |text: &str| {
        let chars = text.chars().count();
        (1..=REFERRAL_TEXT_MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control)
    };
    is_text(&details.doctor) && details.reason.as_deref().is_none_or(is_text)
}

fn place(keys: &KeyMaker, patient: &PatientRef, destination: &HospitalId) -> Vec<u8> {
    keys.space(REFERRAL).hashed(patient.as_bytes()).hashed(destination.as_str()).build()
}

fn binding(patient: &PatientRef) -> Vec<u8> {
    [REFERRAL_LABEL, patient.as_bytes()].concat()
}

/// Which secret the desk's part is sealed under; it is bound to it, too.
fn secret_id(referral: &Referral) -> Vec<u8> {
    [referral.patient.as_bytes(), referral.destination.as_str().as_bytes()].concat()
}

fn claimed(row: &ReferralRow) -> Result<Referral, StoreError> {
    let referral = Signed::<Referral>::read(row.referral.as_ref());
    Ok(referral.map_err(|_| rows::damaged("a referral"))?.claim().clone())
}

fn standing_row(txn: &mut dyn Txn, key: &[u8], now: Timestamp) -> Result<Option<ReferralRow>, StoreError> {
    let Some(row) = rows::get::<ReferralRow>(txn, key)? else { return Ok(None) };
    let expires = claimed(&row)?.expires;
    Ok(Some(row).filter(|_| now < expires))
}

fn new_row(
    txn: &mut dyn Txn,
    inner: &Inner,
    referral: Referral,
    details: &ReferralDetails,
    patient: &LocalPatient,
) -> Result<ReferralRow, ExchangeError> {
    let kept =
        Kept { details: details.clone(), patient: patient.to_string(), extensions: Extensions::default() };
    let id = secret_id(&referral);
    let secret = inner.parts.keyring.get_or_make(txn, REFERRAL, &id, &mut OsRandom)?;
    let sealed = seal_cell(&secret, &id, &codec::encode(&kept), &mut OsRandom)?;
    let signed = Verified::sign(referral, &inner.parts.identity.signing);
    Ok(ReferralRow {
        referral: signed.envelope().to_vec().into(),
        sealed: sealed.into(),
        extensions: Extensions::default(),
    })
}

fn remove(txn: &mut dyn Txn, keyring: &Keyring, key: &[u8], row: &ReferralRow) -> Result<(), StoreError> {
    keyring.remove(txn, REFERRAL, &secret_id(&claimed(row)?))?;
    txn.remove(key)
}

/// Removes those that ended, before there can be too many.
fn make_room(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    now: Timestamp,
) -> Result<(), ExchangeError> {
    let all = keys.space(REFERRAL).build();
    let (mut count, mut after) = (0_usize, None::<Vec<u8>>);
    loop {
        let page = txn.scan(&all, after.as_deref(), SCAN_MAX_CELLS)?;
        let is_last = page.len() < SCAN_MAX_CELLS;
        after = page.last().map(|(key, _)| key.clone());
        for (key, value) in page {
            let row: ReferralRow = rows::read(&value)?;
            if now < claimed(&row)?.expires {
                count = count.saturating_add(1);
            } else {
                remove(txn, keyring, &key, &row)?;
            }
        }
        if is_last {
            break;
        }
    }
    if count < REFERRALS_MAX { Ok(()) } else { Err(Code::Busy.into()) }
}

fn referred(txn: &mut dyn Txn, keyring: &Keyring, row: &ReferralRow) -> Result<Referred, StoreError> {
    let (damaged, referral) = (|| rows::damaged("a referral"), claimed(row)?);
    let id = secret_id(&referral);
    let secret = keyring.get(txn, REFERRAL, &id)?.ok_or_else(damaged)?;
    let kept = open_cell(&secret, &id, row.sealed.as_ref()).map_err(|_| damaged())?;
    let kept: Kept = codec::decode(&kept, MAX_MESSAGE_BYTES).map_err(|_| damaged())?;
    Ok(Referred {
        patient: kept.patient.parse().map_err(|_| damaged())?,
        destination: referral.destination,
        doctor: kept.details.doctor,
        reason: kept.details.reason,
        issued: referral.issued,
        expires: referral.expires,
    })
}
