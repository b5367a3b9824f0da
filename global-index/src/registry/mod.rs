//! Who takes part: enrolment requests and proofs, certificates, status orders, operators, fee schedules.
//!
//! Invariants: a certified hospital's identifier belongs to its key, until another one succeeds; a status order's number never falls;
//! nothing is in force that two different operators did not sign; a revoked key stays revoked.
//!
//! Nothing here knows transfers, patients or how a request arrived.

mod back;
mod enrol;
mod orders;
mod rows;
mod schedules;
mod succession;

use handover_core::artefact::federation::{
    Authority, AuthorityCertificate, CertificateRequest, DirectoryEntry, HospitalCertificate, Status,
};
use handover_core::artefact::{ArtefactError, Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::trust::{self, TrustError};
use handover_core::{Code, Digest, HospitalId, Timestamp};
use handover_seal::{Remembered, SealError};
use handover_store::{KeyMaker, StoreError, Txn};

pub(crate) use self::back::{put_back_head, put_back_piece};
pub(crate) use self::enrol::{Claim, drop_enrolment, enrol, prove};
pub(crate) use self::orders::{Outcome, one_operator, ordered_hospital, submit_order};
pub(crate) use self::rows::Hospital;
use self::rows::Operator;
pub(crate) use self::schedules::{newest_schedule, pending_schedule, schedule_envelopes, submit_schedule};
pub(crate) use self::succession::{drop_successor, known_successor, successors};
use crate::desk::Changed;
use crate::directory::DirectoryError;
use handover_store::rows as cells;

/// Why the registry does not take something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// A rule says no.
    #[error("{why}")]
    Refused {
        /// The code.
        code: Code,
        /// What exactly.
        why: &'static str,
    },
    /// It does not lead up to the root or to two operators.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It is no artefact of the needed kind, or its signature fails.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// An RSA key is not acceptable.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The change cannot be put into the directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// The stable code.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Trust(fault) => fault.code(),
            Self::Artefact(fault) => fault.code(),
            Self::Key(fault) => fault.code(),
            Self::Directory(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
        }
    }
}

fn refuse<T>(code: Code, why: &'static str) -> Result<T, RegistryError> {
    Err(RegistryError::Refused { code, why })
}

fn ensure(holds: bool, code: Code, why: &'static str) -> Result<(), RegistryError> {
    if holds { Ok(()) } else { refuse(code, why) }
}

fn hospital_key(keys: &KeyMaker, hospital: &HospitalId) -> Vec<u8> {
    keys.space("hospital").hashed(hospital.as_str()).build()
}

/// A hospital that has proved its keys.
pub(crate) fn hospital(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    id: &HospitalId,
) -> Result<Option<Hospital>, StoreError> {
    cells::get(txn, &hospital_key(keys, id))
}

/// The same, or a refusal.
pub(crate) fn known_hospital(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    id: &HospitalId,
) -> Result<Hospital, RegistryError> {
    match hospital(txn, keys, id)? {
        Some(row) => Ok(row),
        None => refuse(Code::UnknownHospital, "no hospital with this identifier has proved its keys"),
    }
}

fn put_hospital(txn: &mut dyn Txn, keys: &KeyMaker, row: &Hospital) -> Result<(), StoreError> {
    cells::put(txn, &hospital_key(keys, &row.hospital), row)
}

/// Every hospital that has proved its keys, by identifier.
pub(crate) fn hospitals(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Hospital>, StoreError> {
    let mut rows: Vec<Hospital> = cells::all(txn, &keys.space("hospital").build())?;
    rows.sort_by(|one, other| one.hospital.cmp(&other.hospital));
    Ok(rows)
}

/// What the directory says of the hospitals, ascending by identifier: those that ever were admitted, whatever their
/// status.
pub(crate) fn directory_entries(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
) -> Result<Vec<(HospitalId, DirectoryEntry)>, StoreError> {
    let entries = hospitals(txn, keys)?.into_iter().filter_map(|row| {
        let entry = DirectoryEntry {
            certificate: row.certificate?,
            status: row.order?,
            profile: row.profile,
            former: row.former,
            extensions: Extensions::default(),
        };
        Some((row.hospital, entry))
    });
    Ok(entries.collect())
}

/// Installs the root's certificate for a hospital.
pub(crate) fn certify(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    root: &SigningPublic,
    now: Timestamp,
) -> Result<(HospitalId, Changed), RegistryError> {
    let certificate = Signed::<HospitalCertificate>::read(envelope)?.verify(root, &Remembered)?;
    let mut row = known_hospital(txn, keys, &certificate.hospital)?;
    ensure(now < certificate.not_after, Code::CertificateExpired, "the certificate has expired")?;
    let envelope = Bytes(envelope.to_vec());
    if certificate.key != row.key {
        succession::certify(txn, keys, &row, &certificate.key, envelope)?;
        return Ok((row.hospital, Changed::Nothing));
    }
    if row.certificate.as_ref() == Some(&envelope) {
        return Ok((row.hospital, Changed::Nothing));
    }
    row.certificate = Some(envelope);
    put_hospital(txn, keys, &row)?;
    let changed = if row.order.is_some() { Changed::Directory } else { Changed::Nothing };
    Ok((row.hospital, changed))
}

/// What the root is asked to certify, its own signature verified.
///
/// # Errors
/// [`RegistryError`].
pub(crate) fn certificate_request(envelope: &[u8]) -> Result<Verified<CertificateRequest>, RegistryError> {
    let request = Signed::<CertificateRequest>::read(envelope)?;
    let key = request.claim().key;
    let request = request.verify(&key, &Remembered)?;
    let one = request.authority.is_some() != request.hospital.is_some();
    ensure(one, Code::Malformed, "a request is for an office or for a hospital")?;
    Ok(request)
}

fn operator_key(keys: &KeyMaker, envelope: &[u8]) -> Vec<u8> {
    keys.space("operator").hashed(Digest::sha256(&[envelope]).as_bytes()).build()
}

/// Takes an operator's certificate. Each term stands by itself: a renewal under the same key leaves the one before
/// it, by which the orders of its time are judged.
pub(crate) fn add_operator(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    root: &SigningPublic,
    now: Timestamp,
) -> Result<(AuthorityCertificate, Changed), RegistryError> {
    let certificate = trust::authority(envelope, Authority::Operator, root, now, &Remembered)?;
    let key = operator_key(keys, envelope);
    let row = Operator { certificate: Bytes(envelope.to_vec()), extensions: Extensions::default() };
    if cells::get::<Operator>(txn, &key)?.as_ref() == Some(&row) {
        return Ok((certificate, Changed::Nothing));
    }
    cells::put(txn, &key, &row)?;
    Ok((certificate, Changed::Directory))
}

/// The operators' certificates, in the order of their bytes.
pub(crate) fn operator_certificates(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Bytes>, StoreError> {
    let rows: Vec<Operator> = cells::all(txn, &keys.space("operator").build())?;
    let mut envelopes: Vec<Bytes> = rows.into_iter().map(|row| row.certificate).collect();
    envelopes.sort_by(|one, other| one.0.cmp(&other.0));
    envelopes.dedup();
    Ok(envelopes)
}

/// The operators in office at `now`: only they propose and approve. Those whose term is over stay in the directory.
pub(crate) fn operators(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    root: &SigningPublic,
    now: Timestamp,
) -> Result<Vec<AuthorityCertificate>, RegistryError> {
    let mut operators = Vec::new();
    for envelope in operator_certificates(txn, keys)? {
        match trust::authority(&envelope.0, Authority::Operator, root, now, &Remembered) {
            Ok(operator) => operators.push(operator),
            Err(TrustError::Expired) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(operators)
}

/// What a hospital's row says of its standing, in one word.
pub(crate) fn standing(row: &Hospital) -> &'static str {
    match (row.status, &row.certificate) {
        (Some(status), _) => status.as_str(),
        (None, Some(_)) => "pending-approval",
        (None, None) => "pending-certificate",
    }
}

/// Whether the hospital may still change what it says of itself.
fn may_change(row: &Hospital) -> Result<(), RegistryError> {
    match row.status {
        Some(Status::Revoked) => refuse(Code::HospitalRevoked, "the hospital is revoked"),
        Some(Status::Suspended) => refuse(Code::HospitalSuspended, "the hospital is suspended"),
        Some(Status::Active) | None => Ok(()),
    }
}

#[cfg(test)]
mod succession_tests;
#[cfg(test)]
mod tests;
