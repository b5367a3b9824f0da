//! How often a hospital is answered. Pure but for its row: what was asked within the last hour, and what is overdue.

use handover_core::codec::Extensions;
use handover_core::time::HOUR_MS;
use handover_core::{Code, Digest, HospitalId, Timestamp, cbor_map};
use handover_store::{KeyMaker, StoreError, Txn, rows};

/// Of one hospital, in an hour.
const HOSPITAL_PER_HOUR: usize = 30;
/// Of one clinician, in an hour.
const CLINICIAN_PER_HOUR: usize = 6;
/// Names that fit nobody, or several, of one hospital in an hour: guesses find nobody out.
const GUESSES_PER_HOUR: usize = 5;
/// Of one clinician, in an hour: one person's slips do not shut out everybody.
const CLINICIAN_GUESSES_PER_HOUR: usize = 3;
/// Of a hospital with an overdue review, in an hour.
const OVERDUE_PER_HOUR: usize = 1;
const RATE: &str = "glass-rate";

cbor_map! {
    /// One that was asked.
    pub(super) struct Asked {
        /// When.
        1 => at: Timestamp,
        /// Thumbprint of the clinician's key.
        2 => clinician: Digest,
        /// Whether it named somebody whom nobody here fits. A reference is not guessed.
        3 => is_wrong_guess: bool,
    }
}

cbor_map! {
    /// What a hospital asked within the last hour.
    struct RateRow {
        1 => asked: Vec<Asked>,
    }
}

/// Whether one more is answered.
///
/// # Errors
/// [`Code::BreakGlassThrottled`].
pub(super) fn decide(
    asked: &[Asked],
    clinician: &Digest,
    has_overdue: bool,
    now: Timestamp,
) -> Result<(), Code> {
    let recent = || asked.iter().filter(|it| is_recent(it, now));
    let own = || recent().filter(|it| it.clinician == *clinician);
    let is_full = recent().count() >= if has_overdue { OVERDUE_PER_HOUR } else { HOSPITAL_PER_HOUR }
        || own().count() >= CLINICIAN_PER_HOUR
        || own().filter(|it| it.is_wrong_guess).count() >= CLINICIAN_GUESSES_PER_HOUR
        || recent().filter(|it| it.is_wrong_guess).count() >= GUESSES_PER_HOUR;
    if is_full { Err(Code::BreakGlassThrottled) } else { Ok(()) }
}

fn is_recent(asked: &Asked, now: Timestamp) -> bool {
    (0..HOUR_MS).contains(&now.since_ms(asked.at))
}

/// Whether one more of this hospital and clinician is answered now.
///
/// # Errors
/// [`Code::BreakGlassThrottled`]; the store's.
pub(super) fn check<E: From<StoreError> + From<Code>>(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (hospital, clinician): (&HospitalId, &Digest),
    has_overdue: bool,
    now: Timestamp,
) -> Result<(), E> {
    let row: Option<RateRow> = rows::get(txn, &keys.space(RATE).raw(hospital.as_str()).build())?;
    let asked = row.map(|row| row.asked).unwrap_or_default();
    Ok(decide(&asked, clinician, has_overdue, now)?)
}

/// Counts one.
pub(super) fn count(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    asked: Asked,
) -> Result<(), StoreError> {
    let (place, now) = (keys.space(RATE).raw(hospital.as_str()).build(), asked.at);
    let row: Option<RateRow> = rows::get(txn, &place)?;
    let mut row = row.unwrap_or_else(|| RateRow { asked: Vec::new(), extensions: Extensions::default() });
    row.asked.retain(|it| is_recent(it, now));
    row.asked.push(asked);
    rows::put(txn, &place, &row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(10 * HOUR_MS);

    fn asked(count: usize, clinician: u8, is_wrong_guess: bool) -> Vec<Asked> {
        let one = |_| Asked {
            at: NOW.plus_ms(-1_000),
            clinician: Digest::from_bytes([clinician; 32]),
            is_wrong_guess,
            extensions: Extensions::default(),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn hospitals_clinicians_and_guesses_are_bounded() {
        let ada = Digest::from_bytes([1; 32]);
        let other = |count| (0..count).flat_map(|one| asked(1, 10 + one, false)).collect::<Vec<_>>();
        let decide = |asked: &[Asked], has_overdue| decide(asked, &ada, has_overdue, NOW).is_ok();
        assert!(decide(&asked(CLINICIAN_PER_HOUR - 1, 1, false), false));
        assert!(!decide(&asked(CLINICIAN_PER_HOUR, 1, false), false));
        assert!(decide(&other(29), false) && !decide(&other(30), false));
        assert!(decide(&asked(4, 2, true), false) && !decide(&asked(5, 2, true), false));
        assert!(decide(&asked(2, 1, true), false) && !decide(&asked(3, 1, true), false));
        // Somebody else of that hospital goes on.
        assert!(decide(&asked(3, 2, true), false));
    }

    #[test]
    fn an_overdue_review_leaves_one_in_an_hour() {
        let ada = Digest::from_bytes([1; 32]);
        assert!(decide(&[], &ada, true, NOW).is_ok());
        assert_eq!(decide(&asked(1, 2, false), &ada, true, NOW), Err(Code::BreakGlassThrottled));
        assert!(decide(&asked(1, 2, false), &ada, false, NOW).is_ok());
        // An hour later the next one is answered.
        assert!(decide(&asked(1, 2, false), &ada, true, NOW.plus_ms(HOUR_MS)).is_ok());
    }
}
