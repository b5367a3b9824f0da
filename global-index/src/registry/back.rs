//! What a directory says that this index signed, and the registry has lost.
//!
//! Invariant: nothing falls: of an order, a profile or a schedule the one with the higher number stays.

use handover_core::Digest;
use handover_core::Timestamp;
use handover_core::artefact::federation::{FeeSchedule, HospitalCertificate};
use handover_core::artefact::{Countersigned, Signed};
use handover_core::codec::{Bytes, Extensions};
use handover_core::trust::{Federation, Member};
use handover_seal::RsaPublicKey;
use handover_store::rows as cells;
use handover_store::{KeyMaker, Txn};

use super::rows::{Hospital, Operator, Schedule};
use super::schedules::schedule_key;
use super::{RegistryError, hospital, operator_key, put_hospital};

/// Puts back what stands in a directory, which was verified up to the root.
pub(crate) fn put_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    federation: &Federation,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let directory = federation.directory();
    for certificate in &directory.operators {
        let row = Operator { certificate: certificate.clone(), extensions: Extensions::default() };
        cells::put(txn, &operator_key(keys, certificate.as_ref()), &row)?;
    }
    for envelope in &directory.schedules {
        let schedule = Countersigned::<FeeSchedule>::read(envelope.as_ref())?.claim().clone();
        let row = Schedule { envelope: envelope.clone(), extensions: Extensions::default() };
        cells::put(txn, &schedule_key(keys, &schedule), &row)?;
    }
    for entry in &directory.hospitals {
        let id = Signed::<HospitalCertificate>::read(entry.certificate.as_ref())?.claim().hospital.clone();
        let Ok(member) = federation.member(&id) else { continue };
        let known = hospital(txn, keys, &id)?.filter(|row| row.key == member.certificate.key);
        let mut row = known.unwrap_or_else(|| bare(member, now));
        row.certificate = Some(entry.certificate.clone());
        if row.order.is_none() || member.order.number >= row.number {
            row.order = Some(entry.status.clone());
            (row.status, row.number, row.pending) = (Some(member.order.status), member.order.number, None);
        }
        if row.profile.as_ref().is_empty() || member.profile.number > row.profile_number {
            row.profile = entry.profile.clone();
            row.profile_number = member.profile.number;
            row.rsa_key = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?.thumbprint();
        }
        put_hospital(txn, keys, &row)?;
    }
    Ok(())
}

/// A hospital that was admitted since. What it enrolled with is gone: nobody needs that once it is certified.
fn bare(member: &Member, now: Timestamp) -> Hospital {
    Hospital {
        hospital: member.certificate.hospital.clone(),
        name: member.profile.name.clone(),
        key: member.certificate.key,
        request: Digest::sha256(&[]),
        certificate_request: Bytes::default(),
        profile: Bytes::default(),
        profile_number: 0,
        rsa_key: Digest::sha256(&[]),
        certificate: None,
        order: None,
        status: None,
        number: 0,
        pending: None,
        since: now,
        extensions: Extensions::default(),
    }
}
