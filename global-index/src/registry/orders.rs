//! Status orders: one operator proposes, another one countersigns, and the order is in force.

use handover_core::artefact::federation::{AuthorityCertificate, Status, StatusOrder};
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Countersigned, Payload as _, Signed, peek_type};
use handover_core::codec::Bytes;
use handover_core::trust::{TrustError, two_operators};
use handover_core::{Code, Timestamp};
use handover_seal::Ed25519;
use handover_store::{KeyMaker, Txn};

use super::rows::Hospital;
use super::{RegistryError, ensure, known_hospital, put_hospital, refuse};
use crate::desk::Changed;

/// What a submitted order or schedule has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Waits for a second, different operator.
    Pending,
    /// In force.
    Effective,
}

/// Verifies an artefact that one operator signed.
pub(crate) fn one_operator<T: handover_core::artefact::Payload>(
    envelope: &[u8],
    operators: &[AuthorityCertificate],
) -> Result<handover_core::artefact::Verified<T>, RegistryError> {
    let signed = Signed::<T>::read(envelope)?;
    let key = operators
        .iter()
        .map(|operator| operator.key)
        .find(|key| key.thumbprint() == *signed.kid())
        .ok_or(TrustError::UnknownSigner)?;
    Ok(signed.verify(&key, &Ed25519)?)
}

/// Takes a `StatusOrder`: signed by one operator it waits, countersigned it is in force.
pub(crate) fn submit_order(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    operators: &[AuthorityCertificate],
    now: Timestamp,
) -> Result<(Outcome, Changed), RegistryError> {
    if peek_type(envelope)? == StatusOrder::TYPE {
        let order = one_operator::<StatusOrder>(envelope, operators)?;
        let mut row = known_hospital(txn, keys, &order.hospital)?;
        check_order(&row, &order, now)?;
        row.pending = Some(Bytes(envelope.to_vec()));
        put_hospital(txn, keys, &row)?;
        return Ok((Outcome::Pending, Changed::Nothing));
    }
    let hospital = Countersigned::<StatusOrder>::read(envelope)?.claim().hospital.clone();
    let mut row = known_hospital(txn, keys, &hospital)?;
    if row.order.as_ref().is_some_and(|order| order.0 == envelope) {
        return Ok((Outcome::Effective, Changed::Nothing));
    }
    let order = two_operators::<StatusOrder>(envelope, operators, &Ed25519)?;
    check_order(&row, &order, now)?;
    row.order = Some(Bytes(envelope.to_vec()));
    row.status = Some(order.status);
    row.number = order.number;
    row.pending = None;
    put_hospital(txn, keys, &row)?;
    Ok((Outcome::Effective, Changed::Directory))
}

fn check_order(row: &Hospital, order: &StatusOrder, now: Timestamp) -> Result<(), RegistryError> {
    ensure(row.certificate.is_some(), Code::HospitalPending, "the root has not certified this hospital yet")?;
    ensure(order.key == row.key.thumbprint(), Code::WrongSigner, "the order is about another key")?;
    ensure(
        order.number > row.number,
        Code::Conflict,
        "an order with this number or a higher one is in force",
    )?;
    let next = row.number.checked_add(1);
    ensure(next == Some(order.number), Code::OutOfOrder, "the order's number is not the next one")?;
    ensure(order.issued <= now.plus_ms(CLOCK_SKEW_MS), Code::ClockOff, "the order is from the future")?;
    match row.status {
        Some(Status::Revoked) => refuse(Code::HospitalRevoked, "a revoked hospital stays revoked"),
        None if order.status != Status::Active => {
            refuse(Code::HospitalPending, "the hospital was never approved")
        }
        Some(status) if status == order.status => {
            refuse(Code::OutOfOrder, "the hospital has this status already")
        }
        _ => Ok(()),
    }
}
