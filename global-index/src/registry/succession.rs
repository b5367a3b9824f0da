//! A hospital's next key: one that was lost or stolen, or that has served long enough, is succeeded by another, which
//! the root certifies and two operators approve like the first. Until then the key before speaks, unless operators
//! suspend or revoke it; from then on only the new one does, and what the former signed stays evidence.
//!
//! Anybody can ask to succeed anybody: such a row gives nothing, and there are few of them for each hospital. What the
//! root has certified always has a place: where strangers take all, its certificate comes first.

use handover_core::artefact::Signed;
use handover_core::artefact::federation::{FORMER_KEYS_MAX, HospitalCertificate, Status, StatusOrder};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest, HospitalId, Timestamp};
use handover_store::{KeyMaker, StoreError, Txn};

use super::rows::{Expected, Hospital};
use super::{RegistryError, ensure, known_hospital, put_hospital, refuse};
use handover_store::rows as cells;

/// The most keys that wait to succeed one hospital's.
const WAITING_MAX: usize = 16;
/// How long one that nobody certifies keeps its place from others, in milliseconds.
const UNCERTIFIED_LIFE_MS: i64 = 7 * DAY_MS;

fn space(keys: &KeyMaker, hospital: &HospitalId) -> Vec<u8> {
    keys.space("successor").hashed(hospital.as_str()).build()
}

fn place(keys: &KeyMaker, hospital: &HospitalId, key: &Digest) -> Vec<u8> {
    keys.space("successor").hashed(hospital.as_str()).hashed(key.as_bytes()).build()
}

fn expected_place(keys: &KeyMaker, hospital: &HospitalId, key: &Digest) -> Vec<u8> {
    keys.space("successor-expected").hashed(hospital.as_str()).hashed(key.as_bytes()).build()
}

/// The keys that wait to succeed a hospital's, in the order in which they came.
pub(crate) fn successors(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
) -> Result<Vec<Hospital>, StoreError> {
    let mut rows: Vec<Hospital> = cells::all(txn, &space(keys, hospital))?;
    rows.sort_by_key(|row| row.since);
    Ok(rows)
}

/// One of them, with the number of the order that is in force, which the next order follows.
pub(crate) fn known_successor(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    key: &Digest,
) -> Result<Hospital, RegistryError> {
    let number = known_hospital(txn, keys, hospital)?.number;
    let row: Option<Hospital> = cells::get(txn, &place(keys, hospital, key))?;
    match row {
        // An order that another one has overtaken waits for nobody.
        Some(row) => Ok(Hospital { pending: row.pending.filter(|it| follows(it, number)), number, ..row }),
        None => refuse(Code::UnknownHospital, "no such key waits to succeed this hospital's"),
    }
}

/// Whether an order that one operator signed is the next one after that number.
fn follows(pending: &Bytes, number: u64) -> bool {
    let order = Signed::<StatusOrder>::read(pending.as_ref());
    order.is_ok_and(|order| Some(order.claim().number) == number.checked_add(1))
}

pub(super) fn put(txn: &mut dyn Txn, keys: &KeyMaker, row: &Hospital) -> Result<(), StoreError> {
    cells::put(txn, &place(keys, &row.hospital, &row.key.thumbprint()), row)
}

/// Whether a key may ask to succeed the one that a hospital has.
pub(super) fn may_succeed(row: &Hospital, key: &SigningPublic) -> Result<(), RegistryError> {
    for former in row.former.iter().flatten() {
        let former = Signed::<HospitalCertificate>::read(former.as_ref())?;
        ensure(former.claim().key != *key, Code::KeyReplaced, "the hospital has replaced this key")?;
    }
    let count = row.former.as_deref().map_or(0, <[_]>::len);
    ensure(count < FORMER_KEYS_MAX, Code::Conflict, "the hospital has replaced as many keys as one may")
}

/// Takes a key that proved itself among those that wait. Where there is no room, one that nobody certified in time goes.
pub(super) fn wait(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    held: &Hospital,
    next: Hospital,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let expected_at = expected_place(keys, &held.hospital, &next.key.thumbprint());
    let expected: Option<Expected> = cells::get(txn, &expected_at)?;
    txn.remove(&expected_at)?;
    let next = Hospital { certificate: expected.map(|it| it.certificate), ..next };
    let waiting = successors(txn, keys, &held.hospital)?;
    let known = waiting.iter().find(|row| row.key == next.key);
    let next = match known {
        // Its newer profile; what the root and the operators said of it stays.
        Some(known) => Hospital {
            certificate: next.certificate.or_else(|| known.certificate.clone()),
            pending: known.pending.clone(),
            since: known.since,
            ..next
        },
        None => next,
    };
    if known.is_none() && next.certificate.is_none() && waiting.len() >= WAITING_MAX {
        let is_over =
            |row: &&Hospital| row.certificate.is_none() && now.since_ms(row.since) > UNCERTIFIED_LIFE_MS;
        let Some(goes) = waiting.iter().find(is_over) else {
            return refuse(
                Code::Busy,
                "too many keys wait to succeed this hospital's; operators can drop them",
            );
        };
        txn.remove(&place(keys, &goes.hospital, &goes.key.thumbprint()))?;
    }
    Ok(put(txn, keys, &next)?)
}

/// Takes the root's certificate for a key that waits, or that is expected to enrol.
pub(super) fn certify(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    held: &Hospital,
    key: &SigningPublic,
    certificate: Bytes,
) -> Result<(), RegistryError> {
    may_succeed(held, key)?;
    let at = place(keys, &held.hospital, &key.thumbprint());
    if let Some(next) = cells::get::<Hospital>(txn, &at)? {
        return Ok(put(txn, keys, &Hospital { certificate: Some(certificate), ..next })?);
    }
    let expected = Expected { certificate, extensions: Extensions::default() };
    Ok(cells::put(txn, &expected_place(keys, &held.hospital, &key.thumbprint()), &expected)?)
}

/// What an order is about: the key that the hospital has, or one that waits to succeed it.
pub(super) fn ordered(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    order: &StatusOrder,
) -> Result<(Hospital, Option<Hospital>), RegistryError> {
    let held = known_hospital(txn, keys, &order.hospital)?;
    if order.key == held.key.thumbprint() {
        return Ok((held, None));
    }
    let next: Option<Hospital> = cells::get(txn, &place(keys, &order.hospital, &order.key))?;
    let Some(next) = next else { return refuse(Code::WrongSigner, "the order is about another key") };
    ensure(
        order.status == Status::Active,
        Code::OutOfOrder,
        "a key that waits to succeed is approved or dropped; suspend or revoke the one that speaks now",
    )?;
    Ok((held, Some(next)))
}

/// From now on the next key speaks for the hospital.
pub(super) fn succeed(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    held: Hospital,
    next: Hospital,
) -> Result<(), RegistryError> {
    may_succeed(&held, &next.key)?;
    let mut former = held.former.unwrap_or_default();
    former.extend(held.certificate);
    drop_all(txn, keys, &held.hospital)?;
    Ok(put_hospital(txn, keys, &Hospital { former: Some(former), since: held.since, ..next })?)
}

/// Drops every key that waits: another one speaks now.
pub(super) fn drop_all(txn: &mut dyn Txn, keys: &KeyMaker, hospital: &HospitalId) -> Result<(), StoreError> {
    for waiting in successors(txn, keys, hospital)? {
        txn.remove(&place(keys, hospital, &waiting.key.thumbprint()))?;
    }
    Ok(())
}

/// Drops a key that waits.
pub(crate) fn drop_successor(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    key: &Digest,
) -> Result<Hospital, RegistryError> {
    let row = known_successor(txn, keys, hospital, key)?;
    txn.remove(&place(keys, hospital, key))?;
    Ok(row)
}
