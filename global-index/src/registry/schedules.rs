//! Fee schedules: proposed by one operator, in force when another one countersigned.

use handover_core::artefact::federation::{AuthorityCertificate, FeeSchedule};
use handover_core::artefact::{Countersigned, Payload as _, peek_type};
use handover_core::codec::{Bytes, Extensions};
use handover_core::ledger::SILENCE_MAX_MS;
use handover_core::ledger::fee::BASIS_POINTS;
use handover_core::trust::two_operators;
use handover_core::{Code, Timestamp};
use handover_seal::Ed25519;
use handover_store::{KeyMaker, StoreError, Txn};

use super::orders::one_operator;
use super::rows::Schedule;
use super::{Outcome, RegistryError, ensure};
use crate::desk::Changed;
use handover_store::rows as cells;

/// Schedules of one jurisdiction that stand in the directory: the newest, and the one before it while the newest is
/// not valid yet.
const KEPT: usize = 2;
/// The most schedules in all.
const MAX_SCHEDULES: usize = 100;

fn pending_key(keys: &KeyMaker, jurisdiction: &str) -> Vec<u8> {
    keys.space("schedule-pending").raw(jurisdiction).build()
}

fn read(row: &Schedule) -> Result<FeeSchedule, RegistryError> {
    Ok(Countersigned::<FeeSchedule>::read(row.envelope.as_ref())?.claim().clone())
}

fn rows_of(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Schedule>, StoreError> {
    cells::all(txn, &keys.space("schedule").build())
}

/// The newest schedule of a jurisdiction.
pub(crate) fn newest_schedule(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    jurisdiction: &str,
) -> Result<Option<FeeSchedule>, RegistryError> {
    let schedules = rows_of(txn, keys)?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let own = schedules.into_iter().filter(|schedule| schedule.jurisdiction == jurisdiction);
    Ok(own.max_by_key(|schedule| schedule.number))
}

/// The schedule of a jurisdiction that waits for a second operator.
pub(crate) fn pending_schedule(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    jurisdiction: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<Schedule> = cells::get(txn, &pending_key(keys, jurisdiction))?;
    Ok(row.map(|row| row.envelope.0))
}

/// What the directory says of schedules.
pub(crate) fn schedule_envelopes(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Bytes>, StoreError> {
    Ok(rows_of(txn, keys)?.into_iter().map(|row| row.envelope).collect())
}

/// Takes a `FeeSchedule`: signed by one operator it waits, countersigned it is in force from its own time on.
pub(crate) fn submit_schedule(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    operators: &[AuthorityCertificate],
    now: Timestamp,
) -> Result<(Outcome, Changed), RegistryError> {
    let row = Schedule { envelope: Bytes(envelope.to_vec()), extensions: Extensions::default() };
    if peek_type(envelope)? == FeeSchedule::TYPE {
        let schedule = one_operator::<FeeSchedule>(envelope, operators)?;
        check(txn, keys, &schedule, now)?;
        cells::put(txn, &pending_key(keys, &schedule.jurisdiction), &row)?;
        return Ok((Outcome::Pending, Changed::Nothing));
    }
    if rows_of(txn, keys)?.contains(&row) {
        return Ok((Outcome::Effective, Changed::Nothing));
    }
    let schedule = two_operators::<FeeSchedule>(envelope, operators, &Ed25519)?;
    check(txn, keys, &schedule, now)?;
    let space = keys.space("schedule").raw(&schedule.jurisdiction);
    let held = txn.scan(&space.clone().build(), None, KEPT)?;
    if held.len() >= KEPT {
        // Keys end with the number, so the oldest is the first.
        for (key, _) in held.iter().take(1) {
            txn.remove(key)?;
        }
    }
    cells::put(txn, &space.u64(schedule.number).build(), &row)?;
    txn.remove(&pending_key(keys, &schedule.jurisdiction))?;
    Ok((Outcome::Effective, Changed::Directory))
}

fn check(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    schedule: &FeeSchedule,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let jurisdiction = schedule.jurisdiction == "*"
        || schedule.jurisdiction.len() == 2
            && schedule.jurisdiction.bytes().all(|byte| byte.is_ascii_uppercase());
    ensure(jurisdiction, Code::Malformed, "the jurisdiction is neither two capital letters nor '*'")?;
    ensure(schedule.rate_bps <= BASIS_POINTS, Code::Malformed, "the rate is above the whole")?;
    // Reservations outlive the longest.
    let silence = (0..=SILENCE_MAX_MS).contains(&schedule.silence_ms);
    ensure(silence, Code::Malformed, "the silence period is negative or above 30 days")?;
    ensure(rows_of(txn, keys)?.len() < MAX_SCHEDULES, Code::Busy, "there are too many schedules")?;
    let newest = newest_schedule(txn, keys, &schedule.jurisdiction)?;
    let next = newest.as_ref().map_or(0, |newest| newest.number).checked_add(1);
    ensure(next == Some(schedule.number), Code::OutOfOrder, "the schedule's number is not the next one")?;
    // Nothing that was already quoted may change its meaning.
    let later = newest.is_none_or(|newest| schedule.valid_from > newest.valid_from);
    ensure(later, Code::OutOfOrder, "the schedule is not valid later than the one before it")?;
    let _ = now;
    Ok(())
}
