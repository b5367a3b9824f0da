//! Fee schedules: proposed by one operator, in force when another one countersigned.

use handover_core::artefact::federation::{AuthorityCertificate, FeeSchedule};
use handover_core::artefact::transfer::{CONSENT_MAX_LIFE_MS, QUOTE_LIFE_MS};
use handover_core::artefact::{Countersigned, Payload as _, peek_type};
use handover_core::codec::{Bytes, Extensions};
use handover_core::ledger::SILENCE_MAX_MS;
use handover_core::ledger::fee::BASIS_POINTS;
use handover_core::trust::two_operators;
use handover_core::{Code, Timestamp};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn};

use super::orders::one_operator;
use super::rows::Schedule;
use super::{Outcome, RegistryError, ensure};
use crate::desk::Changed;
use handover_store::rows as cells;

/// How long a schedule stands in the directory after the next one began: as long as a quote that it priced may lead to
/// a transfer.
const KEPT_MS: i64 = QUOTE_LIFE_MS + CONSENT_MAX_LIFE_MS;
/// The most schedules in all.
const MAX_SCHEDULES: usize = 300;

fn pending_key(keys: &KeyMaker, jurisdiction: &str) -> Vec<u8> {
    keys.space("schedule-pending").raw(jurisdiction).build()
}

pub(super) fn schedule_key(keys: &KeyMaker, schedule: &FeeSchedule) -> Vec<u8> {
    keys.space("schedule").raw(&schedule.jurisdiction).u64(schedule.number).build()
}

fn schedules(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<FeeSchedule>, RegistryError> {
    rows_of(txn, keys)?.iter().map(read).collect()
}

/// Removes a jurisdiction's schedules that nothing can stand on any more.
fn drop_outlived(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    jurisdiction: &str,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let mut own = schedules(txn, keys)?;
    own.retain(|schedule| schedule.jurisdiction == jurisdiction);
    own.sort_by_key(|schedule| schedule.number);
    for (before, next) in own.iter().zip(own.iter().skip(1)) {
        if next.valid_from.plus_ms(KEPT_MS) < now {
            txn.remove(&schedule_key(keys, before))?;
        }
    }
    Ok(())
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
    let own = schedules(txn, keys)?.into_iter().filter(|schedule| schedule.jurisdiction == jurisdiction);
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
    let schedule = two_operators::<FeeSchedule>(envelope, operators, &Remembered)?;
    check(txn, keys, &schedule, now)?;
    drop_outlived(txn, keys, &schedule.jurisdiction, now)?;
    cells::put(txn, &schedule_key(keys, &schedule), &row)?;
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
    let later = newest.is_none_or(|newest| schedule.valid_from > newest.valid_from);
    ensure(
        later,
        Code::OutOfOrder,
        "the schedule does not begin later than the one before it: propose it with a later --valid-from",
    )?;
    // Nothing that was already quoted may change its meaning.
    let concerns =
        |other: &FeeSchedule| other.jurisdiction == schedule.jurisdiction || other.jurisdiction == "*";
    let is_first = !schedules(txn, keys)?.iter().any(concerns);
    let ahead = is_first || schedule.valid_from >= now;
    ensure(
        ahead,
        Code::OutOfOrder,
        "the schedule would begin in the past: propose it with a later --valid-from",
    )?;
    Ok(())
}
