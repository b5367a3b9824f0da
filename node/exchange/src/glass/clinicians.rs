//! Whom this hospital lets break the glass. A certificate counts until it ends or is withdrawn: what is signed under
//! it is countersigned only as long as it does, so nobody else has to hear of a withdrawal.

use handover_core::artefact::break_glass::{CLINICIAN_MAX_LIFE_MS, ClinicianCertificate};
use handover_core::artefact::{Verified, peek_kid};
use handover_core::id::SigningPublic;
use handover_core::{Code, Digest, Timestamp};
use handover_records::{Action, Purpose, Subject};
use handover_seal::is_strong;
use handover_store::{StoreError, Txn, rows};

use super::rows::{ClinicianRow, kept};
use super::{grant, none};
use crate::context::Inner;
use crate::{Exchange, ExchangeError};

const CLINICIANS: &str = "clinician";
const NEXT: &str = "clinician-next";

/// A clinician as the officer sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clinician {
    /// What the hospital signed.
    pub certificate: ClinicianCertificate,
    /// Its envelope.
    pub envelope: Vec<u8>,
    /// Since when it does not count any more.
    pub withdrawn: Option<Timestamp>,
    /// Whether the hospital has replaced the key that certified it: a thief of that key may have certified anybody.
    pub is_replaced: bool,
}

impl Clinician {
    /// Whether it counts.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.withdrawn.is_none() && !self.is_replaced && now < self.certificate.not_after
    }
}

impl Exchange {
    /// Certifies a clinician's key. The same again, while it is in force, gives the same certificate.
    ///
    /// # Errors
    /// [`Code::UsageInvalid`] for a name, role, life or key that cannot stand; [`Code::Conflict`] if the key is certified
    /// for another name or role.
    pub async fn certify_clinician(
        &self,
        staff: &str,
        key: SigningPublic,
        (name, role): (&str, &str),
        lasts_ms: i64,
    ) -> Result<Clinician, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let certificate = ClinicianCertificate {
            hospital: inner.own().clone(),
            key,
            name: name.to_owned(),
            role: role.to_owned(),
            number: 0,
            not_before: now,
            not_after: now.plus_ms(lasts_ms),
            extensions: none(),
        };
        let can_stand = certificate.is_readable() && (1..=CLINICIAN_MAX_LIFE_MS).contains(&lasts_ms);
        if !can_stand || !is_strong(&key) {
            return Err(Code::UsageInvalid.into());
        }
        let (keys, work, staff) = (inner.keys(), inner.clone(), staff.to_owned());
        let own = inner.own_kid();
        let write = inner.parts.store.write(move |txn| -> Result<Clinician, ExchangeError> {
            let held = all(txn, &keys, own)?.into_iter();
            let mut held = held.filter(|it| it.certificate.key == key && it.is_in_force(now));
            if let Some(held) = held.next_back() {
                let same =
                    held.certificate.name == certificate.name && held.certificate.role == certificate.role;
                return if same { Ok(held) } else { Err(Code::Conflict.into()) };
            }
            permit(&work, txn, &staff, now)?;
            let next = keys.space(NEXT).build();
            let number = txn.get(&next)?.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
            let number = number.map_or(0, u64::from_be_bytes).saturating_add(1);
            txn.put(&next, number.to_be_bytes().to_vec())?;
            let certificate = ClinicianCertificate { number, ..certificate.clone() };
            let signed = Verified::sign(certificate, &work.parts.identity.signing);
            let row = ClinicianRow {
                certificate: signed.envelope().to_vec().into(),
                withdrawn: None,
                extensions: none(),
            };
            rows::put(txn, &keys.space(CLINICIANS).u64(number).build(), &row)?;
            read(row, own)
        });
        write.await
    }

    /// Every certificate, in order of its number.
    ///
    /// # Errors
    /// The store's.
    pub async fn clinicians(&self) -> Result<Vec<Clinician>, ExchangeError> {
        let (keys, own) = (self.0.keys(), self.0.own_kid());
        Ok(self.0.parts.store.read(move |txn| all(txn, &keys, own)).await?)
    }

    /// Withdraws a certificate: nothing is countersigned under it any more. Again, it changes nothing.
    ///
    /// # Errors
    /// [`Code::ClinicianUnknown`].
    pub async fn withdraw_clinician(&self, staff: &str, number: u64) -> Result<Clinician, ExchangeError> {
        let (work, keys, now) = (self.0.clone(), self.0.keys(), self.0.now());
        let (own, staff) = (self.0.own_kid(), staff.to_owned());
        let write = self.0.parts.store.write(move |txn| -> Result<Clinician, ExchangeError> {
            let place = keys.space(CLINICIANS).u64(number).build();
            let mut row: ClinicianRow = rows::get(txn, &place)?.ok_or(Code::ClinicianUnknown)?;
            if row.withdrawn.is_none() {
                permit(&work, txn, &staff, now)?;
                row.withdrawn = Some(now);
                rows::put(txn, &place, &row)?;
            }
            read(row, own)
        });
        write.await
    }

    /// The certificate in force of a clinician's key.
    ///
    /// # Errors
    /// [`Code::ClinicianUnknown`].
    pub async fn clinician(&self, key: &SigningPublic) -> Result<Clinician, ExchangeError> {
        let now = self.0.now();
        let mut found = self.clinicians().await?.into_iter();
        let found = found.rfind(|it| it.certificate.key == *key && it.is_in_force(now));
        Ok(found.ok_or(Code::ClinicianUnknown)?)
    }
}

fn permit(inner: &Inner, txn: &mut dyn Txn, staff: &str, now: Timestamp) -> Result<(), ExchangeError> {
    let subject = Subject::staff(staff);
    let request = grant(subject, (Action::Certify, Purpose::Administration), None, None);
    inner.parts.records.audit().permit_in(txn, &request, now)?;
    Ok(())
}

fn all(
    txn: &mut dyn Txn,
    keys: &handover_store::KeyMaker,
    own: Digest,
) -> Result<Vec<Clinician>, StoreError> {
    let found: Vec<ClinicianRow> = rows::all(txn, &keys.space(CLINICIANS).build())?;
    found.into_iter().map(|row| read(row, own).map_err(|_| rows::damaged("a clinician"))).collect()
}

fn read(row: ClinicianRow, own: Digest) -> Result<Clinician, ExchangeError> {
    let certificate = kept::<ClinicianCertificate>(&row.certificate)?;
    let is_replaced = peek_kid(row.certificate.as_ref()).map_err(|fault| fault.code())? != own;
    Ok(Clinician { certificate, envelope: row.certificate.0, withdrawn: row.withdrawn, is_replaced })
}

/// Whether a certificate is one of this hospital's that counts now.
pub(super) fn check_in_force(
    txn: &mut dyn Txn,
    inner: &Inner,
    certificate: &ClinicianCertificate,
    now: Timestamp,
) -> Result<(), ExchangeError> {
    let place = inner.keys().space(CLINICIANS).u64(certificate.number).build();
    let row: ClinicianRow = rows::get(txn, &place)?.ok_or(Code::ClinicianUnknown)?;
    let held = read(row, inner.own_kid())?;
    if held.certificate == *certificate && held.is_in_force(now) {
        Ok(())
    } else {
        Err(Code::ClinicianUnknown.into())
    }
}
