//! Status orders: one operator proposes, another one countersigns, and the order is in force.

use handover_core::artefact::federation::{AuthorityCertificate, Status, StatusOrder};
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Countersigned, Payload as _, Signed, peek_type};
use handover_core::codec::Bytes;
use handover_core::trust::{TrustError, two_operators};
use handover_core::{Code, HospitalId, Timestamp};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};

use super::rows::Hospital;
use super::{RegistryError, ensure, put_hospital, refuse, succession};
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
    Ok(signed.verify(&key, &Remembered)?)
}

/// Which hospital a `StatusOrder` claims to be about, signed by one operator or two.
pub(crate) fn ordered_hospital(envelope: &[u8]) -> Result<HospitalId, RegistryError> {
    Ok(match peek_type(envelope)? == StatusOrder::TYPE {
        true => Signed::<StatusOrder>::read(envelope)?.claim().hospital.clone(),
        false => Countersigned::<StatusOrder>::read(envelope)?.claim().hospital.clone(),
    })
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
        let (mut row, next) = succession::ordered(txn, keys, &order)?;
        check_order(&row, next.as_ref(), &order, now)?;
        let pending = Some(Bytes(envelope.to_vec()));
        match next {
            Some(next) => succession::put(txn, keys, &Hospital { pending, ..next })?,
            None => {
                row.pending = pending;
                put_hospital(txn, keys, &row)?;
            }
        }
        return Ok((Outcome::Pending, Changed::Nothing));
    }
    let claimed = Countersigned::<StatusOrder>::read(envelope)?;
    let (mut row, next) = succession::ordered(txn, keys, claimed.claim())?;
    if row.order.as_ref().is_some_and(|order| order.0 == envelope) {
        return Ok((Outcome::Effective, Changed::Nothing));
    }
    let order = two_operators::<StatusOrder>(envelope, operators, &Remembered)?;
    check_order(&row, next.as_ref(), &order, now)?;
    if let Some(next) = next {
        let next = Hospital {
            order: Some(Bytes(envelope.to_vec())),
            status: Some(order.status),
            number: order.number,
            pending: None,
            ..next
        };
        succession::succeed(txn, keys, row, next)?;
        return Ok((Outcome::Effective, Changed::Directory));
    }
    row.order = Some(Bytes(envelope.to_vec()));
    row.status = Some(order.status);
    row.number = order.number;
    row.pending = None;
    put_hospital(txn, keys, &row)?;
    Ok((Outcome::Effective, Changed::Directory))
}

/// Whether an order may be the next one for a hospital, or the one by which another key succeeds.
fn check_order(
    row: &Hospital,
    next: Option<&Hospital>,
    order: &StatusOrder,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let certified = &next.unwrap_or(row).certificate;
    ensure(certified.is_some(), Code::HospitalPending, "the root has not certified this key yet")?;
    ensure(
        order.number > row.number,
        Code::Conflict,
        "an order with this number or a higher one is in force",
    )?;
    let number = row.number.checked_add(1);
    ensure(number == Some(order.number), Code::OutOfOrder, "the order's number is not the next one")?;
    ensure(order.issued <= now.plus_ms(CLOCK_SKEW_MS), Code::ClockOff, "the order is from the future")?;
    match row.status {
        // Whatever became of the key before.
        _ if next.is_some() => Ok(()),
        Some(Status::Revoked) => {
            refuse(Code::HospitalRevoked, "a revoked hospital stays revoked; another key of its may succeed")
        }
        None if order.status != Status::Active => {
            refuse(Code::HospitalPending, "the hospital was never approved")
        }
        Some(status) if status == order.status => {
            refuse(Code::OutOfOrder, "the hospital has this status already")
        }
        _ => Ok(()),
    }
}
