//! Break-glasses, as far as the index is told: that there was one between which hospitals about which patient. Kept as
//! evidence, word for word; and who holds a patient's records, for a hospital that signs for an emergency.
//!
//! Invariants: a hospital tells only of those that it takes part in; the same again changes nothing; how many it may
//! tell of, and ask for, in an hour is bounded. Nothing here knows reasons, clinicians or names.

use handover_core::artefact::Signed;
use handover_core::artefact::break_glass::BreakGlassNote;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::rules::{self, Context};
use handover_core::time::HOUR_MS;
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Timestamp, cbor_map};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Store, StoreError, Txn, rows};

use crate::locator::{self, LocatorError};

/// Notes that a hospital may bring in an hour.
const NOTES_PER_HOUR: usize = 300;
/// Patients that a hospital may look for in an hour.
const LOCATED_PER_HOUR: usize = 30;
/// Notes that are shown.
const SHOWN_MAX: usize = 1_000;
/// The most bytes of a note: notes are kept for good.
const NOTE_MAX_BYTES: usize = 4 * 1024;
/// How long ago what is located under was signed, at most, in milliseconds.
const LOCATES_FOR_MS: i64 = 24 * HOUR_MS;
const NOTES: &str = "break-glass";
const RATE: &str = "break-glass-rate";

cbor_map! {
    /// What a hospital told.
    struct NoteRow {
        /// Who tells.
        1 => teller: HospitalId,
        /// `BreakGlassNote`.
        2 => note: Bytes,
        /// When it came.
        3 => since: Timestamp,
    }
}

cbor_map! {
    /// When a hospital told and looked within the last hour.
    struct RateRow {
        1 => told: Vec<Timestamp>,
        2 => located: Vec<Timestamp>,
    }
}

/// A note as operators see it.
pub(crate) struct Noted {
    /// What was told.
    pub(crate) note: BreakGlassNote,
    /// By whom.
    pub(crate) teller: HospitalId,
    /// When it came.
    pub(crate) since: Timestamp,
}

/// Takes what a hospital tells; answers who holds the patient's records if it asks that.
pub(crate) fn take(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    sender: &HospitalId,
    federation: &Federation,
    now: Timestamp,
) -> Result<Vec<Vec<u8>>, LocatorError> {
    federation.active(sender, now)?;
    if envelope.len() > NOTE_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let note = rules::break_glass_note(envelope, sender, Context { federation, verifier: &Remembered })?;
    let is_locating = note.source.is_none();
    if is_locating {
        // One that was signed once does not locate for ever, and each answer counts.
        let age_ms = now.since_ms(note.issued);
        if age_ms < -CLOCK_SKEW_MS {
            return Err(Code::ClockOff.into());
        }
        if age_ms >= LOCATES_FOR_MS {
            return Err(Code::BreakGlassOver.into());
        }
        count(txn, keys, sender, is_locating, now)?;
    }
    let place = keys.space(NOTES).raw(note.id.as_bytes()).raw(sender.as_str()).build();
    match rows::get::<NoteRow>(txn, &place)? {
        // Whose answer was lost is told again, maybe under the teller's next key or in a later edition.
        Some(held) if noted(&held)?.note != *note => return Err(Code::Conflict.into()),
        Some(_) => {}
        None => {
            if !is_locating {
                count(txn, keys, sender, is_locating, now)?;
            }
            let row = NoteRow {
                teller: sender.clone(),
                note: envelope.to_vec().into(),
                since: now,
                extensions: Extensions::default(),
            };
            rows::put(txn, &place, &row)?;
        }
    }
    match (is_locating, note.patient) {
        (true, Some(patient)) => Ok(vec![codec::encode(&locator::holders(txn, keys, &patient, federation)?)]),
        _ => Ok(Vec::new()),
    }
}

fn count(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    sender: &HospitalId,
    is_locating: bool,
    now: Timestamp,
) -> Result<(), LocatorError> {
    let place = keys.space(RATE).raw(sender.as_str()).build();
    let mut row: RateRow = rows::get(txn, &place)?.unwrap_or_else(|| RateRow {
        told: Vec::new(),
        located: Vec::new(),
        extensions: Extensions::default(),
    });
    let (times, most) = match is_locating {
        true => (&mut row.located, LOCATED_PER_HOUR),
        false => (&mut row.told, NOTES_PER_HOUR),
    };
    times.retain(|at| (0..HOUR_MS).contains(&now.since_ms(*at)));
    if times.len() >= most {
        return Err(Code::Busy.into());
    }
    times.push(now);
    Ok(rows::put(txn, &place, &row)?)
}

/// The newest notes, the oldest first. Each page is read for itself, so that this holds nobody up.
pub(crate) async fn newest(store: &Store, keys: &KeyMaker) -> Result<Vec<Noted>, StoreError> {
    let (mut newest, mut after) = (std::collections::VecDeque::new(), None::<Vec<u8>>);
    loop {
        let (prefix, from) = (keys.space(NOTES).build(), after.take());
        let page = store.read(move |txn| txn.scan(&prefix, from.as_deref(), SHOWN_MAX)).await?;
        let is_last = page.len() < SHOWN_MAX;
        after = page.last().map(|(key, _)| key.clone());
        newest.extend(page.into_iter().map(|(_, row)| row));
        let extra = newest.len().saturating_sub(SHOWN_MAX);
        newest.drain(..extra);
        if is_last {
            return newest.iter().map(|row| noted(&rows::read(row)?)).collect();
        }
    }
}

fn noted(row: &NoteRow) -> Result<Noted, StoreError> {
    let note = Signed::<BreakGlassNote>::read(row.note.as_ref());
    let note = note.map_err(|_| rows::damaged("a note of a break-glass"))?.claim().clone();
    Ok(Noted { note, teller: row.teller.clone(), since: row.since })
}
